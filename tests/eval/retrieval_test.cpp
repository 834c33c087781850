#include "eval/retrieval.h"

#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <torch/types.h>

namespace dalle {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;

constexpr int64_t kKs[] = {1, 2, 3};

TEST(Retrieval, CountsQueriesWhosePartnerIsAmongTheFirst) {
  // The partner of the first query comes first, of the second second, of the third third.
  const auto similarity = torch::tensor({{.9, .1, .2}, {.5, .4, .3}, {.8, .7, .6}});
  EXPECT_THAT(retrieved_at(similarity, torch::arange(3), kKs),
              ElementsAre(DoubleEq(1. / 3), DoubleEq(2. / 3), 1));
}

TEST(Retrieval, IsSatisfiedWithAnyPartner) {
  const auto similarity = torch::tensor({{.1, .2, .9}, {.2, .9, .1}, {.1, .9, .2}});
  EXPECT_THAT(retrieved_at(similarity, torch::tensor({5, 6, 5}), kKs),
              ElementsAre(DoubleEq(2. / 3), 1, 1));
}

TEST(Retrieval, FindsNothingWhereAllIsEquallySimilar) {
  EXPECT_THAT(retrieved_at(torch::ones({4, 4}), torch::arange(4), kKs), ElementsAre(0, 0, 0));
}

TEST(Retrieval, FindsNothingWhereSimilaritiesAreNotNumbers) {
  const auto similarity = torch::full({4, 4}, std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(retrieved_at(similarity, torch::arange(4), kKs), ElementsAre(0, 0, 0));
}

TEST(Retrieval, TheMostSimilarCandidateHasNoEqual) {
  const auto similarity = torch::tensor({.1, .5, .5, .3});
  const auto as_good = [](std::vector<int64_t> candidates) {
    return torch::zeros({4}, torch::kBool).index_fill(0, torch::tensor(candidates), true);
  };
  EXPECT_FALSE(is_most_similar(similarity, 1, as_good({1})));
  EXPECT_TRUE(is_most_similar(similarity, 1, as_good({1, 2})));
  EXPECT_FALSE(is_most_similar(similarity, 3, as_good({2, 3})));
  EXPECT_TRUE(is_most_similar(similarity * torch::tensor({1, 1, 0, 1}), 1, as_good({1})));
  EXPECT_FALSE(is_most_similar(similarity / 0. * 0., 1, as_good({1, 2})));
}

}  // namespace
}  // namespace dalle
