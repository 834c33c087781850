#include "dalle/optim/adamw.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

constexpr AdamWOptions kOptions{
    .beta1 = 0.9, .beta2 = 0.96, .epsilon = 1e-8, .weight_decay = 4.5e-2};

/// The algorithm as its paper prints it, one number at a time in float64.
struct PlainAdamW {
  double weight, m = 0, v = 0;
  int t = 0;
  void step(double gradient, double learning_rate) {
    ++t;
    m = kOptions.beta1 * m + (1 - kOptions.beta1) * gradient;
    v = kOptions.beta2 * v + (1 - kOptions.beta2) * gradient * gradient;
    const double m_hat = m / (1 - std::pow(kOptions.beta1, t));
    const double v_hat = v / (1 - std::pow(kOptions.beta2, t));
    weight -= learning_rate *
              (m_hat / (std::sqrt(v_hat) + kOptions.epsilon) + kOptions.weight_decay * weight);
  }
};

TEST(AdamW, FollowsThePublishedAlgorithm) {
  torch::manual_seed(3);
  const auto weights = torch::randn({1000});
  std::vector<PlainAdamW> plain;
  for (int i = 0; i < 1000; ++i) plain.push_back({weights[i].item<double>()});
  AdamW optimizer(weights, kOptions);
  for (int step = 0; step < 20; ++step) {
    const auto gradients = torch::randn({1000});
    const double learning_rate = 1e-2 * (step + 1);
    optimizer.step(gradients, learning_rate);
    for (int i = 0; i < 1000; ++i)
      plain[static_cast<size_t>(i)].step(gradients[i].item<double>(), learning_rate);
  }
  EXPECT_EQ(optimizer.updates(), 20);
  for (int i = 0; i < 1000; ++i)
    ASSERT_NEAR(weights[i].item<double>(), plain[static_cast<size_t>(i)].weight, 2e-5) << i;
}

TEST(AdamW, GoesOnBitForBitFromItsSavedState) {
  torch::manual_seed(4);
  std::vector<at::Tensor> gradients;
  for (int step = 0; step < 6; ++step) gradients.push_back(torch::randn({64}));
  const auto start = torch::randn({64});

  const auto uninterrupted = start.clone();
  AdamW first(uninterrupted, kOptions);
  for (const auto& gradient : gradients) first.step(gradient, 1e-2);

  const auto resumed = start.clone();
  AdamW before(resumed, kOptions);
  for (int step = 0; step < 3; ++step) before.step(gradients[static_cast<size_t>(step)], 1e-2);
  AdamW after(resumed, kOptions);
  after.first_moment().copy_(before.first_moment());
  after.second_moment().copy_(before.second_moment());
  after.set_updates(before.updates());
  for (int step = 3; step < 6; ++step) after.step(gradients[static_cast<size_t>(step)], 1e-2);

  EXPECT_TRUE(torch::equal(resumed, uninterrupted));
}

TEST(AdamW, LeavesZerosWithoutAGradientAtZero) {  // the gaps between parameters
  const auto weights = torch::zeros({16});
  AdamW optimizer(weights, kOptions);
  for (int step = 0; step < 5; ++step) optimizer.step(torch::zeros({16}), 0.1);
  EXPECT_TRUE(torch::equal(weights, torch::zeros({16})));
}

TEST(GradientNorm, IsTheEuclideanNorm) {
  EXPECT_DOUBLE_EQ(gradient_norm(torch::tensor({3.0F, 4.0F})), 5.0);
}

TEST(GradientNorm, DoesNotOverflowWhereTheSumOfSquaresWouldInFloat32) {
  EXPECT_NEAR(gradient_norm(torch::full({4}, 1e25F)), 2e25, 1e19);
}

TEST(GradientNorm, IsNotFiniteWhereAGradientIsNot) {
  EXPECT_FALSE(std::isfinite(gradient_norm(torch::tensor({1.0F, std::nanf("")}))));
  EXPECT_FALSE(std::isfinite(gradient_norm(torch::tensor({1.0F, INFINITY}))));
}

}  // namespace
}  // namespace dalle
