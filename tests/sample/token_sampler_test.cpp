#include "sample/token_sampler.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

at::Tensor probabilities_of(std::vector<float> logits, const SamplingConfig& sampling) {
  TokenSampler sampler(sampling);
  const auto weights = sampler.weights(logits);
  const auto p =
      torch::tensor(at::ArrayRef<double>(weights.data(), weights.size()), torch::kDouble);
  return p / p.sum();
}

/// The definition with tensors, which sorts.
at::Tensor plain_probabilities(const at::Tensor& logits, const SamplingConfig& sampling) {
  auto scores = logits.to(at::kDouble);
  scores = (scores - scores.max()) / sampling.temperature;
  if (sampling.top_k > 0 && sampling.top_k < scores.size(0)) {
    const auto order = std::get<1>(scores.sort(/*stable=*/true, 0, /*descending=*/true));
    scores.index_fill_(0, order.slice(0, sampling.top_k), -INFINITY);
  }
  auto p = scores.softmax(0);
  if (sampling.top_p < 1) {
    const auto [sorted, order] = p.sort(/*stable=*/true, 0, /*descending=*/true);
    const auto dropped = sorted.cumsum(0) - sorted >= sampling.top_p;
    p.index_fill_(0, order.masked_select(dropped), 0);
    p /= p.sum();
  }
  return p;
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

TEST(TokenSampler, GuidesLogitsAwayFromUnconditionalOnes) {
  TokenSampler sampler({.guidance = 3});
  const std::vector<float> conditional{1, -2, 0.5}, unconditional{0, 1, 0.5};
  const auto guided = sampler.guided(conditional, unconditional);
  EXPECT_EQ(std::vector(guided.begin(), guided.end()), (std::vector<float>{3, -8, 0.5}));
  const std::vector<float> broken{1, NAN, 0};
  EXPECT_THROW(sampler.sample(sampler.guided(conditional, broken), 0.5), Error);
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

TEST(TokenProbabilities, EqualTheirDefinition) {
  torch::manual_seed(4);
  for (int trial = 0; trial < 20; ++trial) {
    const auto logits = (torch::randn({300}) * 3).round() / 2;  // with ties
    const std::vector<float> values(logits.const_data_ptr<float>(),
                                    logits.const_data_ptr<float>() + logits.numel());
    for (const double temperature : {0.2, 1.0, 1.7})
      for (const int64_t top_k : {0, 1, 7, 100, 299, 300})
        for (const double top_p : {0.05, 0.5, 0.9, 0.999, 1.0}) {
          const SamplingConfig sampling{.temperature = temperature, .top_k = top_k, .top_p = top_p};
          EXPECT_TRUE(torch::allclose(probabilities_of(values, sampling),
                                      plain_probabilities(logits, sampling), 1e-12, 1e-15))
              << temperature << " " << top_k << " " << top_p;
        }
  }
}

TEST(InvertCumulative, GivesEachIndexItsShare) {
  const std::vector<double> weights{0.5, 0.0, 1.0, 0.5};
  EXPECT_EQ(invert_cumulative(weights, 0.0), 0);
  EXPECT_EQ(invert_cumulative(weights, 0.2499), 0);
  EXPECT_EQ(invert_cumulative(weights, 0.25), 2);  // a token of probability 0 is never sampled
  EXPECT_EQ(invert_cumulative(weights, 0.7499), 2);
  EXPECT_EQ(invert_cumulative(weights, 0.75), 3);
  EXPECT_EQ(invert_cumulative(weights, std::nextafter(1.0, 0.0)), 3);
}

TEST(InvertCumulative, AssignsARoundingGapAtTheEndToTheLastPossibleIndex) {
  const double third = 1.0 / 3;
  for (int64_t count = 1; count < 200; ++count) {
    std::vector<double> weights(static_cast<size_t>(count), third);
    weights.push_back(0);
    EXPECT_EQ(invert_cumulative(weights, std::nextafter(1.0, 0.0)), count - 1);
  }
}

TEST(TokenSampler, FollowsTheProbabilities) {
  const std::vector<float> logits{std::log(0.1F), std::log(0.2F), std::log(0.3F), std::log(0.4F)};
  constexpr int kTokens = 20'000;
  TokenSampler sampler({});
  std::vector<double> counts(4);
  for (int i = 0; i < kTokens; ++i) {
    const double uniform =
        to_unit(derive_seed(1, SeedPurpose::kImageToken, static_cast<uint64_t>(i)));
    ++counts[static_cast<size_t>(sampler.sample(logits, uniform))];
  }
  double statistic = 0;
  for (size_t token = 0; token < 4; ++token) {
    const double expected = kTokens * 0.1 * static_cast<double>(token + 1);
    statistic += (counts[token] - expected) * (counts[token] - expected) / expected;
  }
  EXPECT_LT(statistic, 16.3);  // 3 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace dalle
