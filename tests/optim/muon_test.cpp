#include "optim/muon.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

class MuonOnShape : public testing::TestWithParam<std::vector<int64_t>> {};

TEST_P(MuonOnShape, OrthogonalizesAndKeepsTheSingularVectors) {
  torch::manual_seed(5);
  const auto matrix = torch::randn(GetParam());
  const auto [u, s, vh] = at::linalg_svd(matrix.to(torch::kFloat64), /*full_matrices=*/false);
  const auto result = orthogonalize(matrix).to(torch::kFloat64);
  ASSERT_EQ(result.sizes(), matrix.sizes());
  const auto in_its_basis = u.t().matmul(result).matmul(vh.t());
  const auto singular_values = in_its_basis.diagonal();
  EXPECT_GT(singular_values.min().item<double>(), 0.5);
  EXPECT_LT(singular_values.max().item<double>(), 1.25);
  EXPECT_TRUE(torch::allclose(in_its_basis, singular_values.diag(), 0, 1e-4));
}

INSTANTIATE_TEST_SUITE_P(Shapes, MuonOnShape,
                         testing::Values(std::vector<int64_t>{12, 12}, std::vector<int64_t>{8, 30},
                                         std::vector<int64_t>{40, 6}, std::vector<int64_t>{1, 9},
                                         std::vector<int64_t>{128, 512},
                                         std::vector<int64_t>{400, 130}));

TEST(Muon, KeepsZerosAtZero) {
  EXPECT_TRUE(torch::equal(orthogonalize(torch::zeros({3, 4})), torch::zeros({3, 4})));
}

/// The published algorithm, in float64 and without optimizations.
struct PlainMuon {
  at::Tensor weights, momentum;

  void step(const at::Tensor& gradient, double learning_rate, double weight_decay) {
    momentum = 0.95 * momentum + 0.05 * gradient;
    auto x = (0.05 * gradient + 0.95 * momentum).flatten(1);
    x = x / x.norm();
    for (int i = 0; i < 5; ++i) {
      const auto gram = x.matmul(x.t());
      x = 3.4445 * x - 4.7750 * gram.matmul(x) + 2.0315 * gram.matmul(gram).matmul(x);
    }
    const double size = static_cast<double>(std::max(x.size(0), x.size(1)));
    weights = weights - learning_rate * weight_decay * weights -
              learning_rate * 0.2 * std::sqrt(size) * x.view(weights.sizes());
  }
};

TEST(Muon, FollowsThePublishedAlgorithm) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{6, 10}, {10, 6}, {4, 3, 3, 3}, {128, 300}, {260, 130}}) {
    torch::manual_seed(6);
    const auto weights = torch::randn(shape), momentum = torch::zeros(shape);
    PlainMuon plain{weights.to(torch::kFloat64), momentum.to(torch::kFloat64)};
    for (int step = 0; step < 10; ++step) {
      const auto gradient = torch::randn(shape);
      const double learning_rate = 1e-2 * (step + 1);
      muon_step(weights, gradient, momentum, learning_rate, {.weight_decay = 0.1});
      plain.step(gradient.to(torch::kFloat64), learning_rate, 0.1);
    }
    EXPECT_TRUE(torch::allclose(weights.to(torch::kFloat64), plain.weights, 1e-4, 1e-4)) << shape;
    EXPECT_TRUE(torch::allclose(momentum.to(torch::kFloat64), plain.momentum, 1e-5, 1e-6));
  }
}

TEST(Muon, StepsHaveTheSizeOfAdamWs) {  // a root mean square of about 0.2 times the learning rate
  torch::manual_seed(7);
  const auto weights = torch::zeros({64, 256}), momentum = torch::zeros({64, 256});
  muon_step(weights, torch::randn({64, 256}), momentum, 1e-2, {});
  EXPECT_NEAR(weights.square().mean().sqrt().item<double>(), 0.2 * 1e-2, 0.05 * 1e-2);
}

}  // namespace
}  // namespace dalle
