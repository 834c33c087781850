#include "nn/chunked_cross_entropy.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

namespace dalle {
namespace {

struct Problem {
  at::Tensor states = torch::randn({13, 6}, torch::kDouble).requires_grad_();
  at::Tensor weight = torch::randn({9, 6}, torch::kDouble).requires_grad_();
  at::Tensor targets = torch::randint(-1, 9, {13}, torch::kLong);  // some of them -1
};

TEST(ChunkedCrossEntropy, EqualsPlainCrossEntropyForAnyChunkSize) {
  torch::manual_seed(1);
  for (const int64_t chunk : {1, 4, 13, 100}) {
    Problem problem;
    const auto plain =
        at::cross_entropy_loss(problem.states.matmul(problem.weight.t()), problem.targets, {},
                               at::Reduction::Sum, /*ignore_index=*/-1);
    (plain * 0.7).backward();
    const auto states_gradient = problem.states.grad().clone(),
               weight_gradient = problem.weight.grad().clone();
    problem.states.mutable_grad().zero_();
    problem.weight.mutable_grad().zero_();

    const auto chunked = chunked_cross_entropy(problem.states, problem.weight, problem.targets,
                                               TargetRows::kSome, Precision::kFloat32, chunk);
    (chunked * 0.7).backward();
    EXPECT_NEAR(chunked.item<double>(), plain.item<double>(), 1e-10) << chunk;
    EXPECT_TRUE(torch::allclose(problem.states.grad(), states_gradient, 1e-10, 1e-12)) << chunk;
    EXPECT_TRUE(torch::allclose(problem.weight.grad(), weight_gradient, 1e-10, 1e-12)) << chunk;
  }
}

TEST(ChunkedCrossEntropy, GradientMatchesFiniteDifferences) {
  torch::manual_seed(2);
  Problem problem;
  const auto loss = [&] {
    return chunked_cross_entropy(problem.states, problem.weight, problem.targets, TargetRows::kSome,
                                 Precision::kFloat32, 5);
  };
  loss().backward();
  constexpr double kStep = 1e-6;
  for (at::Tensor* tensor : {&problem.states, &problem.weight}) {
    const auto values = tensor->detach().flatten();
    for (int64_t i = 0; i < values.numel(); i += 3) {
      const double value = values[i].item<double>();
      values[i] = value + kStep;
      const double above = loss().item<double>();
      values[i] = value - kStep;
      const double below = loss().item<double>();
      values[i] = value;
      EXPECT_NEAR(tensor->grad().flatten()[i].item<double>(), (above - below) / (2 * kStep), 1e-6);
    }
  }
}

TEST(ChunkedCrossEntropy, HasTheSameValueWithoutGradients) {
  torch::manual_seed(4);
  const Problem problem;
  const auto loss = [&] {
    return chunked_cross_entropy(problem.states, problem.weight, problem.targets, TargetRows::kSome,
                                 Precision::kFloat32, 4);
  };
  const auto with_gradients = loss();
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(loss(), with_gradients));
  EXPECT_FALSE(loss().requires_grad());
}

TEST(ChunkedCrossEntropy, IgnoresRowsWithoutTargets) {
  Problem problem;
  const auto loss =
      chunked_cross_entropy(problem.states, problem.weight, torch::full({13}, -1, torch::kLong),
                            TargetRows::kSome, Precision::kFloat32);
  EXPECT_EQ(loss.item<double>(), 0.0);
  loss.backward();
  EXPECT_TRUE(problem.states.grad().eq(0).all().item<bool>());
  EXPECT_TRUE(problem.weight.grad().eq(0).all().item<bool>());
}

TEST(ChunkedCrossEntropy, HasTheSameBitsWhetherItSearchesForRowsOrIsToldThatAllHaveTargets) {
  torch::manual_seed(5);
  const auto targets = torch::randint(0, 9, {13}, torch::kLong);
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    const auto states = torch::randn({13, 6}).requires_grad_();
    const auto weight = torch::randn({9, 6}).requires_grad_();
    const auto loss_and_gradients = [&](TargetRows rows) {
      const auto loss = chunked_cross_entropy(states, weight, targets, rows, precision, 4);
      auto found = torch::autograd::grad({loss}, {states, weight});
      found.push_back(loss);
      return found;
    };
    const auto searched = loss_and_gradients(TargetRows::kSome);
    const auto told = loss_and_gradients(TargetRows::kAll);
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(torch::equal(searched[i], told[i])) << i;
  }
}

TEST(ChunkedCrossEntropy, OfUniformLogitsIsTheLogOfTheNumberOfClasses) {
  const auto loss = chunked_cross_entropy(torch::randn({10, 4}), torch::zeros({8192, 4}),
                                          torch::arange(10, torch::kLong), TargetRows::kAll,
                                          Precision::kFloat32, 4);
  EXPECT_NEAR(loss.item<float>() / 10, std::log(8192.0), 1e-4);
}

TEST(ChunkedCrossEntropy, InBfloat16HasTheValueOfFloat32AndGradientsCloseToIt) {
  torch::manual_seed(3);
  const auto targets = torch::randint(0, 50, {32}, torch::kLong);
  const auto states = torch::randn({32, 16}).requires_grad_();
  const auto weight = (torch::randn({50, 16}) * 0.2).requires_grad_();
  const auto loss = [&](Precision precision) {
    return chunked_cross_entropy(states, weight, targets, TargetRows::kAll, precision, 10);
  };
  EXPECT_TRUE(torch::equal(loss(Precision::kBfloat16), loss(Precision::kFloat32)));
  const auto exact = torch::autograd::grad({loss(Precision::kFloat32)}, {states, weight});
  const auto rounded = torch::autograd::grad({loss(Precision::kBfloat16)}, {states, weight});
  for (size_t i = 0; i < 2; ++i) {
    const double error = ((rounded[i] - exact[i]).norm() / exact[i].norm()).item<double>();
    EXPECT_LT(error, 0.01);
    EXPECT_GT(error, 0.0);  // the gradients' products use bfloat16
  }
}

}  // namespace
}  // namespace dalle
