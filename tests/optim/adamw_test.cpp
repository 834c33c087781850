#include "optim/adamw.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

constexpr AdamWOptions kOptions{
    .beta1 = 0.9, .beta2 = 0.96, .epsilon = 1e-8, .weight_decay = 4.5e-2};

/// The algorithm as printed in the paper, for one number at a time, in float64.
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
  AdamW optimizer(weights, kOptions, all_of(weights));
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

TEST(AdamW, ResumesBitForBitFromItsSavedState) {
  torch::manual_seed(4);
  std::vector<at::Tensor> gradients;
  for (int step = 0; step < 6; ++step) gradients.push_back(torch::randn({64}));
  const auto start = torch::randn({64});

  const auto uninterrupted = start.clone();
  AdamW first(uninterrupted, kOptions, all_of(start));
  for (const auto& gradient : gradients) first.step(gradient, 1e-2);

  const auto resumed = start.clone();
  AdamW before(resumed, kOptions, all_of(start));
  for (int step = 0; step < 3; ++step) before.step(gradients[static_cast<size_t>(step)], 1e-2);
  AdamW after(resumed, kOptions, all_of(start));
  after.first_moment().assign(before.first_moment().parts()[0]);
  after.second_moment().assign(before.second_moment().parts()[0]);
  after.set_updates(before.updates());
  for (int step = 3; step < 6; ++step) after.step(gradients[static_cast<size_t>(step)], 1e-2);

  EXPECT_TRUE(torch::equal(resumed, uninterrupted));
}

TEST(AdamW, KeepsZerosWithoutAGradientAtZero) {  // the gaps between parameters
  const auto weights = torch::zeros({16});
  AdamW optimizer(weights, kOptions, all_of(weights));
  for (int step = 0; step < 5; ++step) optimizer.step(torch::zeros({16}), 0.1);
  EXPECT_TRUE(torch::equal(weights, torch::zeros({16})));
}

TEST(AdamW, UpdatesRangesExactlyAsTheFullBuffer) {
  torch::manual_seed(5);
  const auto full = torch::randn({4096}), parts = full.clone(), start = full.clone();
  const std::vector<FlatRange> ranges{{.begin = 1024, .size = 512}, {.begin = 3072, .size = 1024}};
  AdamW of_all(full, kOptions, all_of(full)), of_some(parts, kOptions, ranges);
  for (int step = 0; step < 3; ++step) {
    const auto gradients = torch::randn({4096});
    of_all.step(gradients, 1e-2);
    of_some.step(gradients, 1e-2);
  }
  for (const FlatRange& range : ranges)
    EXPECT_TRUE(torch::equal(range.slice(parts), range.slice(full)));
  EXPECT_TRUE(torch::equal(parts.narrow(0, 1536, 1536), start.narrow(0, 1536, 1536)));
  EXPECT_TRUE(torch::equal(of_some.second_moment().parts()[1],
                           ranges[1].slice(of_all.second_moment().parts()[0])));
}

}  // namespace
}  // namespace dalle
