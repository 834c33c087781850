#pragma once

#include <cstdint>

namespace dalle {

/// The smallest multiple of `multiple` that is not below `value`; both positive.
constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace dalle
