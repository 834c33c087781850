#include "nn/gpu/float_product.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

namespace dalle {
namespace {

at::Tensor rounded(const at::Tensor& x) {
  return x.to(at::kBFloat16).to(at::kFloat);
}

TEST(FloatProductTest, RoundsTheOperandsButNotTheResult) {
  torch::manual_seed(1);
  const auto x = torch::randn({7, 40}).to(at::kBFloat16), weight = torch::randn({5, 40});
  const auto y = float_linear(x, weight);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_TRUE(torch::allclose(y, x.to(at::kFloat).mm(rounded(weight).t()), 1e-5, 1e-5));
  EXPECT_FALSE(torch::allclose(y, rounded(y), 1e-5, 1e-5));
}

TEST(FloatProductTest, ComputesBothGradientsFromTheRoundedGradientOfTheResult) {
  torch::manual_seed(2);
  const auto x = torch::randn({7, 40}).to(at::kBFloat16).requires_grad_();
  const auto weight = torch::randn({5, 40}).requires_grad_();
  const auto factor = torch::randn({7, 5});
  const auto found = torch::autograd::grad({(float_linear(x, weight) * factor).sum()}, {x, weight});
  EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(found[1].scalar_type(), at::kFloat);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(
      torch::allclose(found[0].to(at::kFloat), rounded(factor).mm(rounded(weight)), 0.01, 0.01));
  EXPECT_TRUE(torch::allclose(found[1], rounded(factor).t().mm(x.to(at::kFloat)), 1e-5, 1e-5));
}

TEST(FloatProductTest, IsOnlyOnCuda) {
  EXPECT_FALSE(has_float_product(torch::zeros({1, 1}, at::kBFloat16)));
}

}  // namespace
}  // namespace dalle
