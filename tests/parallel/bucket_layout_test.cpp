#include "parallel/bucket_layout.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(BucketLayout, CoversTheBufferOnce) {
  for (const int64_t world : {1, 2, 3, 8})
    for (const int64_t bucket_size : {1, 40, 1000, 1 << 20}) {
      const int64_t size = 24 * 10 * world;
      const BucketLayout layout(size, world, bucket_size, /*granularity=*/8);
      int64_t end = 0;
      for (const FlatRange& bucket : layout.buckets()) {
        EXPECT_EQ(bucket.begin, end);
        EXPECT_EQ(bucket.size % (world * 8), 0);
        end = bucket.end();
      }
      EXPECT_EQ(end, size);
      std::vector<int> owners(static_cast<size_t>(size), 0);
      for (int64_t rank = 0; rank < world; ++rank) {
        int64_t owned = 0;
        for (const FlatRange& range : layout.owned_by(rank)) {
          owned += range.size;
          for (int64_t i = range.begin; i < range.end(); ++i) ++owners[static_cast<size_t>(i)];
        }
        EXPECT_EQ(owned, size / world);
      }
      EXPECT_EQ(owners, std::vector<int>(static_cast<size_t>(size), 1));
    }
}

TEST(BucketLayout, OfOneRankIsOneRange) {
  const BucketLayout layout(64, 1, 16, 8);
  EXPECT_EQ(layout.buckets().size(), 4u);
  EXPECT_EQ(layout.owned_by(0), (std::vector<FlatRange>{{.begin = 0, .size = 64}}));
}

}  // namespace
}  // namespace dalle
