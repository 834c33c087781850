#include "parallel/bucket_layout.h"

#include <algorithm>

#include "core/error.h"
#include "tensor/round_up.h"

namespace dalle {

BucketLayout::BucketLayout(int64_t size, int64_t world_size, int64_t bucket_size,
                           int64_t granularity)
    : world_size_(world_size) {
  const int64_t unit = world_size * granularity;
  DALLE_CHECK(size % unit == 0 && bucket_size > 0);
  const int64_t full = round_up(bucket_size, unit);
  for (int64_t begin = 0; begin < size; begin += full)
    buckets_.push_back({begin, std::min(full, size - begin)});
}

FlatRange BucketLayout::part(const FlatRange& bucket, int64_t rank) const {
  const int64_t size = bucket.size / world_size_;
  return {bucket.begin + rank * size, size};
}

std::vector<FlatRange> BucketLayout::owned_by(int64_t rank) const {
  std::vector<FlatRange> owned;
  for (const FlatRange& bucket : buckets_) {
    const FlatRange own = part(bucket, rank);
    if (!owned.empty() && owned.back().end() == own.begin)
      owned.back().size += own.size;
    else
      owned.push_back(own);
  }
  return owned;
}

}  // namespace dalle
