#pragma once

#include <cstdint>

namespace dalle {

/// The order in which a run visits its data. Each epoch is a permutation of [0, size) that is
/// computed from the seed and the epoch, not stored. Ranks, workers and batches do not affect it.
class EpochPermutation {
 public:
  /// @throws dalle::Error if size is not positive
  EpochPermutation(uint64_t seed, int64_t size);

  int64_t size() const { return size_; }

  /// Returns the epoch of global position `position` >= 0.
  int64_t epoch(int64_t position) const { return position / size_; }

  /// Returns the index of the sample at global position `position` >= 0.
  int64_t index(int64_t position) const;

 private:
  uint64_t seed_;
  int64_t size_;
  int half_bits_;
};

}  // namespace dalle
