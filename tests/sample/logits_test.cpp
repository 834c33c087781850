#include "sample/logits.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

at::Tensor probabilities_of(std::vector<float> logits, const SamplingConfig& sampling) {
  return token_probabilities(torch::tensor(logits).unsqueeze(0), sampling)[0];
}

std::vector<int64_t> kept(const at::Tensor& probabilities) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < probabilities.size(0); ++i)
    if (probabilities[i].item<double>() > 0) tokens.push_back(i);
  return tokens;
}

using Tokens = std::vector<int64_t>;

TEST(TokenProbabilities, AreTheSoftmaxOfTheLogitsOverTheTemperature) {
  const auto p = probabilities_of({1, 2, 4}, {.temperature = 2});
  const double sum = std::exp(0.5) + std::exp(1.0) + std::exp(2.0);
  EXPECT_NEAR(p[0].item<double>(), std::exp(0.5) / sum, 1e-12);
  EXPECT_NEAR(p[2].item<double>(), std::exp(2.0) / sum, 1e-12);
}

TEST(TokenProbabilities, AtTemperatureZeroSelectTheMostLikelyToken) {
  EXPECT_EQ(kept(probabilities_of({1, 7, 3, 2}, {.temperature = 0})), Tokens{1});
}

TEST(TokenProbabilities, KeepTheTopK) {
  EXPECT_EQ(kept(probabilities_of({3, 1, 2, 5}, {.top_k = 2})), (Tokens{0, 3}));
  EXPECT_EQ(kept(probabilities_of({3, 1, 2, 5}, {.top_k = 1})), Tokens{3});
  EXPECT_EQ(kept(probabilities_of({3, 1, 2, 5}, {.top_k = 0})).size(), 4u);
  EXPECT_EQ(kept(probabilities_of({3, 1, 2, 5}, {.top_k = 99})).size(), 4u);
}

TEST(TokenProbabilities, KeepOnlyKOfEqualTokens) {
  EXPECT_EQ(kept(probabilities_of({2, 5, 5, 5, 1}, {.top_k = 2})), (Tokens{1, 2}));
  EXPECT_EQ(kept(probabilities_of({2, 2, 5, 2, 1}, {.top_k = 3})), (Tokens{0, 1, 2}));
  EXPECT_EQ(kept(probabilities_of({4, 4, 4, 4}, {.top_k = 1})), Tokens{0});
}

TEST(TokenProbabilities, AtTheSmallestTemperatureEqualThoseAtZero) {
  for (const double temperature : {1e-12, 1e-310, 5e-324})
    EXPECT_EQ(kept(probabilities_of({1, -7, 3, 2}, {.temperature = temperature})), Tokens{2});
}

TEST(TokenProbabilities, KeepTheFewestThatReachTopP) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F),
                                     std::log(0.05F)};
  EXPECT_EQ(kept(probabilities_of(logits, {.top_p = 0.45})), Tokens{0});
  EXPECT_EQ(kept(probabilities_of(logits, {.top_p = 0.7})), (Tokens{0, 1}));
  EXPECT_EQ(kept(probabilities_of(logits, {.top_p = 0.0})), Tokens{0});
  EXPECT_EQ(kept(probabilities_of(logits, {.top_p = 1.0})).size(), 4u);
  EXPECT_NEAR(probabilities_of(logits, {.top_p = 0.7}).sum().item<double>(), 1.0, 1e-12);
}

TEST(TokenProbabilities, RejectNonFiniteLogits) {
  EXPECT_THROW(probabilities_of({1, std::nanf("")}, {}), Error);
  EXPECT_THROW(probabilities_of({1, INFINITY}, {}), Error);
}

TEST(SampleTokens, InvertsTheCumulativeDistribution) {
  const auto p = torch::tensor({0.25, 0.0, 0.5, 0.25}, torch::kDouble).unsqueeze(0);
  const auto sampled = [&](double u) {
    return sample_tokens(p, std::vector{u})[0].item<int64_t>();
  };
  EXPECT_EQ(sampled(0.0), 0);
  EXPECT_EQ(sampled(0.2499), 0);
  EXPECT_EQ(sampled(0.25), 2);  // a token of probability 0 is never sampled
  EXPECT_EQ(sampled(0.7499), 2);
  EXPECT_EQ(sampled(0.75), 3);
  EXPECT_EQ(sampled(std::nextafter(1.0, 0.0)), 3);
}

TEST(SampleTokens, AssignsARoundingGapAtTheEndToTheLastPossibleToken) {
  const auto p = torch::tensor({0.3, 0.699, 0.0}, torch::kDouble).unsqueeze(0);
  EXPECT_EQ(sample_tokens(p, std::vector{0.9999})[0].item<int64_t>(), 1);
}

TEST(SampleTokens, FollowsTheProbabilities) {
  const auto p = torch::tensor({0.1, 0.2, 0.3, 0.4}, torch::kDouble).unsqueeze(0);
  constexpr int kDraws = 20'000;
  std::vector<double> uniforms;
  for (int i = 0; i < kDraws; ++i)
    uniforms.push_back(to_unit(derive_seed(1, SeedPurpose::kImageToken, static_cast<uint64_t>(i))));
  const auto counts =
      sample_tokens(p.expand({kDraws, 4}), uniforms).bincount({}, 4).to(torch::kDouble);
  const auto expected = p[0] * kDraws;
  EXPECT_LT(((counts - expected).square() / expected).sum().item<double>(),
            16.3);  // 3 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace dalle
