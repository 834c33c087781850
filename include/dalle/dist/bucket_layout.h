#pragma once

#include <cstdint>
#include <vector>

#include "dalle/core/flat_range.h"

namespace dalle {

/// Cuts a flat buffer into buckets, which are sent one by one, and each bucket into equal parts,
/// one for each rank. Buckets do not follow the borders of parameters.
class BucketLayout {
 public:
  /// @param size         of the buffer, a multiple of world * granularity
  /// @param bucket_size  wanted; rounded up to a multiple of world * granularity
  BucketLayout(int64_t size, int64_t world, int64_t bucket_size, int64_t granularity);

  const std::vector<FlatRange>& buckets() const { return buckets_; }

  /// A rank's part of a bucket.
  FlatRange part(const FlatRange& bucket, int64_t rank) const;

  /// A rank's parts of all buckets, neighbours joined: the weights whose update is its work.
  std::vector<FlatRange> owned_by(int64_t rank) const;

 private:
  int64_t world_;
  std::vector<FlatRange> buckets_;
};

}  // namespace dalle
