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

}  // namespace
}  // namespace dalle
