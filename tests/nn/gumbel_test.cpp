#include "nn/gumbel.h"

#include <array>
#include <cmath>
#include <numbers>
#include <span>
#include <vector>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "core/error.h"
#include "finite_differences.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr std::array<uint64_t, 4> kSeeds{11, 12, 13, 14};

at::Tensor some_logits() {
  return 2 * torch::randn({4, 5, 2, 3}, at::make_generator<at::CPUGeneratorImpl>(1),
                          at::TensorOptions(at::kDouble));
}

TEST(GumbelNoiseTest, HasTheGumbelDistribution) {
  const auto noise = gumbel_noise(kSeeds, {64, 50, 50}).to(at::kDouble);  // 640,000 numbers
  EXPECT_NEAR(noise.mean().item<double>(), std::numbers::egamma, 0.01);
  EXPECT_NEAR(noise.var().item<double>(), std::numbers::pi * std::numbers::pi / 6, 0.03);
  for (const double x : {-2.0, -1.0, 0.0, 1.0, 3.0, 6.0})
    EXPECT_NEAR((noise <= x).to(at::kDouble).mean().item<double>(), std::exp(-std::exp(-x)), 3e-3);
  EXPECT_TRUE(noise.isfinite().all().item<bool>());
}

TEST(GumbelNoiseTest, DependsOnTheSampleAndNotOnTheBatch) {
  const auto full = gumbel_noise(kSeeds, {6, 3, 2});
  ASSERT_EQ(full.sizes(), (std::vector<int64_t>{4, 6, 3, 2}));
  const std::span<const uint64_t> seeds(kSeeds);
  EXPECT_TRUE(torch::equal(full, torch::cat({gumbel_noise(seeds.first(1), {6, 3, 2}),
                                             gumbel_noise(seeds.subspan(1, 2), {6, 3, 2}),
                                             gumbel_noise(seeds.last(1), {6, 3, 2})})));
  EXPECT_FALSE(torch::equal(full[0], full[1]));
}

TEST(GumbelNoiseTest, TurnsArgmaxIntoExactSampling) {
  const auto probabilities = torch::tensor({0.05, 0.15, 0.3, 0.5}, at::kDouble);
  const auto logits = probabilities.log().view({1, 4, 1, 1});
  const auto codes = (logits + gumbel_noise(kSeeds, {4, 200, 200})).argmax(1);
  const auto shares = codes.flatten().bincount({}, 4).to(at::kDouble) / codes.numel();
  EXPECT_TRUE(torch::allclose(shares, probabilities, 0.0, 6e-3)) << shares;
}

TEST(GumbelSoftmaxTest, IsSoftAndSumsToOne) {
  const auto relaxed = gumbel_softmax(some_logits(), gumbel_noise(kSeeds, {5, 2, 3}), 1.0);
  EXPECT_TRUE(torch::allclose(relaxed.sum(1), torch::ones({4, 2, 3}, at::kDouble)));
  EXPECT_GT(relaxed.min().item<double>(), 0.0);
  EXPECT_LT(relaxed.max().item<double>(), 1.0) << "a straight-through sample would be hard";
}

TEST(GumbelSoftmaxTest, FollowsItsDefinition) {
  const auto logits = some_logits();
  const auto noise = gumbel_noise(kSeeds, {5, 2, 3});
  const auto exponentials = ((logits + noise) / 0.7).exp();
  const auto expected = exponentials / exponentials.sum(1, /*keepdim=*/true);
  EXPECT_TRUE(torch::allclose(gumbel_softmax(logits, noise, 0.7), expected, 1e-12, 1e-12));
}

TEST(GumbelSoftmaxTest, ApproachesTheOneHotArgmaxOfTheNoisyLogits) {
  const auto logits = some_logits();
  const auto noise = gumbel_noise(kSeeds, {5, 2, 3});
  const auto one_hot = at::one_hot((logits + noise).argmax(1), 5).permute({0, 3, 1, 2});
  const auto distance = [&](double temperature) {
    return (gumbel_softmax(logits, noise, temperature) - one_hot).abs().max().item<double>();
  };
  EXPECT_GT(distance(1.0), distance(0.1));
  EXPECT_LT(distance(1e-4), 1e-6);
}

TEST(GumbelSoftmaxTest, GradientMatchesFiniteDifferences) {
  const auto noise = gumbel_noise(kSeeds, {5, 2, 3}).to(at::kDouble);
  const auto direction = some_logits().cos();
  for (const double temperature : {1.0, 1.0 / 16})
    EXPECT_LT(gradient_error(
                  [&](const at::Tensor& logits) {
                    return (gumbel_softmax(logits, noise, temperature) * direction).sum();
                  },
                  some_logits()),
              1e-6);
}

/// A vocabulary for which the rows are divided into parts, of which the last is smaller.
class LargeVocabularyTest : public testing::TestWithParam<at::MemoryFormat> {
 protected:
  at::Tensor logits_ = torch::randn({2, 8192, 3, 5}, at::make_generator<at::CPUGeneratorImpl>(1))
                           .contiguous(GetParam())
                           .requires_grad_();
  at::Tensor direction_ = logits_.detach().cos();
};

TEST_P(LargeVocabularyTest, GumbelSoftmaxFollowsItsDefinition) {
  const auto noise = gumbel_noise(std::span(kSeeds).first(2), {8192, 3, 5});
  const auto relaxed = gumbel_softmax(logits_, noise, 0.7);
  const auto expected = ((logits_ + noise).to(at::kDouble) / 0.7).softmax(1).to(at::kFloat);
  EXPECT_TRUE(torch::allclose(relaxed, expected, 1e-4, 1e-9));
  const auto gradient = torch::autograd::grad({relaxed}, {logits_}, {direction_})[0];
  const auto expected_gradient = torch::autograd::grad({expected}, {logits_}, {direction_})[0];
  EXPECT_TRUE(torch::allclose(gradient, expected_gradient, 1e-3, 1e-8));
}

TEST_P(LargeVocabularyTest, KlFollowsItsDefinition) {
  const auto kl = kl_to_uniform(logits_);
  const auto log_q = logits_.log_softmax(1);
  const auto expected = (log_q.exp() * log_q).sum(1).mean() + std::log(8192.0);
  EXPECT_NEAR(kl.item<double>(), expected.item<double>(), 1e-5);
  const auto gradient = torch::autograd::grad({kl}, {logits_})[0];
  const auto expected_gradient = torch::autograd::grad({expected}, {logits_})[0];
  EXPECT_TRUE(torch::allclose(gradient, expected_gradient, 1e-4, 1e-9));
}

TEST_P(LargeVocabularyTest, DoesNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    const auto noise = gumbel_noise(std::span(kSeeds).first(2), {8192, 3, 5});
    const auto relaxed = gumbel_softmax(logits_, noise, 0.7);
    results.push_back(torch::cat(
        {relaxed.flatten(), torch::autograd::grad({relaxed}, {logits_}, {direction_})[0].flatten(),
         torch::autograd::grad({kl_to_uniform(logits_)}, {logits_})[0].flatten()}));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(results[0], results[1]));
}

INSTANTIATE_TEST_SUITE_P(Layouts, LargeVocabularyTest,
                         testing::Values(at::MemoryFormat::ChannelsLast,
                                         at::MemoryFormat::Contiguous),
                         [](const auto& format) {
                           return format.param == at::MemoryFormat::Contiguous ? "ChannelsFirst"
                                                                               : "ChannelsLast";
                         });

TEST(GumbelSoftmaxTest, RejectsDifferentShapesAndNonPositiveTemperatures) {
  const auto logits = torch::zeros({1, 5, 2, 3});
  EXPECT_THAT(
      [&] {
        gumbel_softmax(logits, torch::zeros({1, 5, 3, 2}), 1.0);
      },
      ThrowsMessage<Error>(HasSubstr("logits are Float [1, 5, 2, 3] and noise is Float "
                                     "[1, 5, 3, 2], expected one shape [B, K, h, w]")));
  for (const double temperature : {0.0, -1.0, std::nan("")})
    EXPECT_THAT([&] { gumbel_softmax(logits, logits, temperature); },
                ThrowsMessage<Error>(HasSubstr("expected a number above 0")));
}

TEST(KlToUniformTest, IsZeroForUniformAndLnKForDeterministicPosteriors) {
  EXPECT_NEAR(kl_to_uniform(torch::full({2, 8192, 2, 2}, 3.0)).item<double>(), 0.0, 1e-5);
  auto sharp = torch::zeros({2, 8192, 2, 2});
  sharp.select(1, 17).fill_(1000.0);
  EXPECT_NEAR(kl_to_uniform(sharp).item<double>(), 9.0109, 1e-4);
}

TEST(KlToUniformTest, AveragesItsDefinitionOverPositions) {
  const auto logits = some_logits();
  const auto q = logits.softmax(1);
  const auto expected = (q * (q / (1.0 / 5)).log()).sum(1).mean();
  EXPECT_NEAR(kl_to_uniform(logits).item<double>(), expected.item<double>(), 1e-12);
  EXPECT_LT(gradient_error([](const at::Tensor& x) { return kl_to_uniform(x); }, logits), 1e-9);
}

TEST(KlToUniformTest, RejectsInvalidShapes) {
  EXPECT_THAT(
      [] {
        kl_to_uniform(torch::zeros({3, 5}));
      },
      ThrowsMessage<Error>(HasSubstr("logits are Float [3, 5], expected [B, K, h, w]")));
}

}  // namespace
}  // namespace dalle
