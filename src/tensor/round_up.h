#pragma once

#include <cstdint>

namespace dalle {

/// Rounds `value` up to a multiple of `multiple`; both must be positive.
constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace dalle
