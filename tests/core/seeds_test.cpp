#include "core/seeds.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(Seeds, DependOnEveryArgument) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 4; ++seed)
    for (const auto purpose : {SeedPurpose::kGumbelNoise, SeedPurpose::kCrop})
      for (uint64_t a = 0; a < 8; ++a)
        for (uint64_t b = 0; b < 8; ++b)
          for (uint64_t c = 0; c < 8; ++c) seen.insert(derive_seed(seed, purpose, a, b, c));
  EXPECT_EQ(seen.size(), 4u * 2 * 8 * 8 * 8);
}

TEST(Seeds, NeverChange) {  // a run must not change with the version of the program
  EXPECT_EQ(mix_bits(0x9e3779b97f4a7c15ULL),
            0xe220a8397b1dcdafULL);  // first output of SplitMix64(0)
  EXPECT_EQ(derive_seed(1, SeedPurpose::kImageToken, 2, 3),
            derive_seed(1, SeedPurpose::kImageToken, 2, 3, 0));
}

TEST(Seeds, UnitNumbersFillTheIntervalEvenly) {
  constexpr int kBins = 20, kDraws = 200'000;
  std::vector<int> counts(kBins);
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = to_unit(derive_seed(7, SeedPurpose::kImageToken, i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<size_t>(u * kBins)];
  }
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 1e4) * (count - 1e4) / 1e4;
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001
}

TEST(SeedStream, BelowReachesEveryValueUnderItsBound) {
  SeedStream random(3);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.below(7));
  EXPECT_EQ(seen, (std::set<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace dalle
