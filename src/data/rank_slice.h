#pragma once

#include <cstdint>

namespace dalle {

/// The contiguous part of every global batch that a rank processes. The sizes of the parts differ
/// by at most one sample, and their concatenation in the order of ranks is the global batch.
class RankSlice {
 public:
  /// @param batch_size  global batch size, at least one sample per rank
  RankSlice(int64_t batch_size, int64_t rank, int64_t world_size)
      : batch_size_(batch_size),
        begin_(batch_size * rank / world_size),
        size_(batch_size * (rank + 1) / world_size - begin_) {}

  int64_t size() const { return size_; }

  /// Returns the global position of the rank's sample `number`, counted from the first step of the
  /// run: step s begins with number s * size().
  int64_t position(int64_t number) const {
    return number / size_ * batch_size_ + begin_ + number % size_;
  }

 private:
  int64_t batch_size_;
  int64_t begin_;
  int64_t size_;
};

}  // namespace dalle
