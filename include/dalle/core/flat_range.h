#pragma once

#include <cstdint>

namespace dalle {

/// Neighbouring elements of a flat buffer.
struct FlatRange {
  int64_t begin = 0;
  int64_t size = 0;

  int64_t end() const { return begin + size; }

  /// The range's part of a flat tensor [P]; shares its memory.
  template <class Tensor>
  Tensor of(const Tensor& flat) const {
    return flat.narrow(0, begin, size);
  }

  bool operator==(const FlatRange&) const = default;
};

}  // namespace dalle
