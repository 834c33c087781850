#pragma once

#include <cstdint>
#include <vector>

#include "tensor/flat_range.h"

namespace dalle {

/// Splits a flat buffer into buckets, which are sent one by one, and each bucket into equal parts,
/// one for each rank. Bucket boundaries are independent of those of the parameters.
class BucketLayout {
 public:
  /// @param size         of the buffer, a multiple of world_size * granularity
  /// @param bucket_size  wanted; rounded up to a multiple of world_size * granularity
  BucketLayout(int64_t size, int64_t world_size, int64_t bucket_size, int64_t granularity);

  const std::vector<FlatRange>& buckets() const { return buckets_; }

  FlatRange part(const FlatRange& bucket, int64_t rank) const;

  /// A rank's parts of all buckets, adjacent ones joined: the weights that it updates.
  std::vector<FlatRange> owned_by(int64_t rank) const;

 private:
  int64_t world_size_;
  std::vector<FlatRange> buckets_;
};

}  // namespace dalle
