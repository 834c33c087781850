#include "core/nearest_name.h"

#include <array>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("steps", "steps"), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("step", "steps"), 1u);
  EXPECT_EQ(edit_distance("stepss", "steps"), 1u);
  EXPECT_EQ(edit_distance("staps", "steps"), 1u);
  EXPECT_EQ(edit_distance("setps", "steps"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(EditDistance, IsSymmetric) {
  for (const auto& [a, b] : {std::pair{"trian", "train"}, {"abc", ""}, {"kitten", "sitting"}})
    EXPECT_EQ(edit_distance(a, b), edit_distance(b, a)) << a;
}

TEST(NearestName, FindsTheIntendedName) {
  const std::array<std::string, 3> known = {"steps", "batch_size", "micro_batch_size"};
  EXPECT_EQ(nearest_name("step", known), "steps");
  EXPECT_EQ(nearest_name("batchsize", known), "batch_size");
  EXPECT_EQ(nearest_name("microbatch_size", known), "micro_batch_size");
}

TEST(NearestName, IsEmptyIfNothingIsClose) {
  const std::array<std::string, 2> known = {"ab", "learning_rate"};
  EXPECT_EQ(nearest_name("zebra", known), "");
  EXPECT_EQ(nearest_name("xy", known), "");  // every letter differs
  EXPECT_EQ(nearest_name("anything", {}), "");
}

}  // namespace
}  // namespace dalle
