#pragma once

#include <cstdint>

namespace dalle {

/// A rank's part of every global batch: neighbours in it, as many as the other ranks have or one
/// more. Put one behind the other in the ranks' order, the parts are the batch in its own order.
class BatchPart {
 public:
  /// @param batch_size  of all ranks together, at least one sample for each
  BatchPart(int64_t batch_size, int64_t rank, int64_t world)
      : batch_size_(batch_size),
        begin_(batch_size * rank / world),
        size_(batch_size * (rank + 1) / world - begin_) {}

  int64_t size() const { return size_; }

  /// Global position of the rank's sample number `number`, had it had this part since the run's
  /// first step: step s begins with number s * size().
  int64_t position(int64_t number) const {
    return number / size_ * batch_size_ + begin_ + number % size_;
  }

 private:
  int64_t batch_size_;
  int64_t begin_;
  int64_t size_;
};

}  // namespace dalle
