#include "dalle/dist/bucket_layout.h"

#include <algorithm>

#include "dalle/core/error.h"
#include "dalle/core/round_up.h"

namespace dalle {

BucketLayout::BucketLayout(int64_t size, int64_t world, int64_t bucket_size, int64_t granularity)
    : world_(world) {
  const int64_t unit = world * granularity;
  DALLE_CHECK(size % unit == 0 && bucket_size > 0);
  const int64_t full = round_up(bucket_size, unit);
  for (int64_t begin = 0; begin < size; begin += full)
    buckets_.push_back({begin, std::min(full, size - begin)});
}

FlatRange BucketLayout::part(const FlatRange& bucket, int64_t rank) const {
  const int64_t size = bucket.size / world_;
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
