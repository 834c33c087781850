#pragma once

#include <cstdint>

namespace dalle {

/// The order in which a run visits its data: each epoch is a permutation of [0, size), computed
/// from the seed and the epoch without storing it. Nothing about ranks, workers or batches enters.
class SampleOrder {
 public:
  /// @throws dalle::Error if size is not positive
  SampleOrder(uint64_t seed, int64_t size);

  int64_t size() const { return size_; }

  /// Epoch in which global position `position` >= 0 of the run falls.
  int64_t epoch(int64_t position) const { return position / size_; }

  /// Index of the sample at global position `position` >= 0 of the run.
  int64_t index(int64_t position) const;

 private:
  uint64_t seed_;
  int64_t size_;
  int half_bits_;
};

}  // namespace dalle
