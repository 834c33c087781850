#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dalle {

/// A range of consecutive elements of a flat buffer.
struct FlatRange {
  int64_t begin = 0;
  int64_t size = 0;

  int64_t end() const { return begin + size; }

  /// Returns this range of a flat tensor [P]; shares its memory.
  at::Tensor slice(const at::Tensor& flat) const { return flat.narrow(0, begin, size); }

  bool operator==(const FlatRange&) const = default;
};

/// A single range that covers a flat tensor [P].
inline std::vector<FlatRange> all_of(const at::Tensor& flat) {
  return {{.begin = 0, .size = flat.numel()}};
}

}  // namespace dalle
