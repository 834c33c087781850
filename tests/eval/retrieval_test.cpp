#include "eval/retrieval.h"

#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <torch/types.h>

namespace dalle {
namespace {

using testing::DoubleEq;
using testing::Pointwise;

/// Of 12 images and captions: caption i is the one that is i-th most similar to every image.
at::Tensor falling() {
  return torch::arange(12, at::kDouble).neg().expand({12, 12});
}

void expect_shares(const at::Tensor& similarity, const at::Tensor& labels,
                   const std::vector<double>& expected) {
  std::vector<double> found;
  for (const auto& [name, share] : retrieval_shares(similarity, labels)) found.push_back(share);
  EXPECT_THAT(found, Pointwise(DoubleEq(), expected));
}

TEST(Retrieval, CountsQueriesWhosePartnerIsAmongTheFirst) {
  // The partner of the first image comes first, of the second second, and so on.
  const auto labels = torch::arange(12);
  const auto shares = retrieval_shares(falling(), labels);
  EXPECT_EQ(shares.front().first, "image_to_text_at_1");
  EXPECT_EQ(shares.back().first, "text_to_image_at_10");
  // All images are equally similar to a caption.
  expect_shares(falling(), labels, {1. / 12, 5. / 12, 10. / 12, 0, 0, 0});
  expect_shares(falling().t(), labels, {0, 0, 0, 1. / 12, 5. / 12, 10. / 12});
}

TEST(Retrieval, IsSatisfiedWithAnyPartner) {
  // The last image also has the caption of the first.
  auto labels = torch::arange(12);
  labels[11] = 0;
  expect_shares(falling(), labels, {2. / 12, 6. / 12, 11. / 12, 0, 0, 0});
}

TEST(Retrieval, FindsNothingWhereAllIsEquallySimilar) {
  expect_shares(torch::ones({12, 12}), torch::arange(12), {0, 0, 0, 0, 0, 0});
}

TEST(Retrieval, FindsNothingWhereSimilaritiesAreNotNumbers) {
  expect_shares(torch::full({12, 12}, std::numeric_limits<double>::quiet_NaN()), torch::arange(12),
                {0, 0, 0, 0, 0, 0});
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
