#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Neighbouring elements of a flat buffer.
struct FlatRange {
  int64_t begin = 0;
  int64_t size = 0;

  int64_t end() const { return begin + size; }

  /// The range's part of a flat buffer [P]; shares its memory.
  at::Tensor of(const at::Tensor& flat) const { return flat.narrow(0, begin, size); }

  bool operator==(const FlatRange&) const = default;
};

}  // namespace dalle
