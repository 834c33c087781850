#include "eval/caption_ranking.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/ascii.h"

namespace dalle {
namespace {

TEST(RankCaptionTest, CountsBetterCaptions) {
  const std::array others = {-5.0, -1.0, -2.5};
  EXPECT_EQ(rank_caption(-0.5, others).first, 1);
  EXPECT_EQ(rank_caption(-0.5, others).reciprocal, 1);
  EXPECT_EQ(rank_caption(-2.0, others).first, 0);
  EXPECT_EQ(rank_caption(-2.0, others).reciprocal, 1.0 / 2);
  EXPECT_EQ(rank_caption(-9.0, others).reciprocal, 1.0 / 4);
}

TEST(RankCaptionTest, TiesCountAsIfOrderedAtRandom) {
  const std::array<double, 15> equal{};
  EXPECT_DOUBLE_EQ(rank_caption(0, equal).first, 1.0 / 16);
  double harmonic = 0;
  for (int rank = 1; rank <= 16; ++rank) harmonic += 1.0 / rank;
  EXPECT_NEAR(rank_caption(0, equal).reciprocal, harmonic / 16, 1e-12);
  // Second or third, behind one that is better.
  EXPECT_EQ(rank_caption(1, std::array{2.0, 1.0, 0.0}).first, 0);
  EXPECT_NEAR(rank_caption(1, std::array{2.0, 1.0, 0.0}).reciprocal, (1.0 / 2 + 1.0 / 3) / 2,
              1e-12);
}

TEST(RankCaptionTest, AloneIsFirst) {
  EXPECT_EQ(rank_caption(-3, {}).first, 1);
  EXPECT_EQ(rank_caption(-3, {}).reciprocal, 1);
}

TEST(ShuffledWordsTest, AreTheSameWordsInAnotherOrder) {
  const std::string caption = "a red circle left of a blue square";
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SeedStream random(seed), again(seed);
    const std::string shuffled = shuffled_words(caption, random);
    EXPECT_NE(shuffled, caption);
    EXPECT_EQ(shuffled, shuffled_words(caption, again));
    std::vector<std::string> words = split_words(shuffled), expected = split_words(caption);
    EXPECT_TRUE(std::ranges::is_permutation(words, expected)) << shuffled;
    orders.insert(shuffled);
  }
  EXPECT_GT(orders.size(), 45U);
}

TEST(ShuffledWordsTest, AreNoneWhereEveryOrderReadsTheSame) {
  SeedStream random(1);
  EXPECT_EQ(shuffled_words("circle", random), "");
  EXPECT_EQ(shuffled_words("very very  very", random), "");
  EXPECT_EQ(shuffled_words("red circle", random), "circle red");
}

}  // namespace
}  // namespace dalle
