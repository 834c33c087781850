#include "nn/conv2d.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

namespace dalle {
namespace {

at::Generator seeded(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

// Computes one output pixel at a time from the definition of a padded convolution.
double pixel_by_hand(const Conv2d& convolution, const at::Tensor& x, int64_t out, int64_t row,
                     int64_t column) {
  const auto& w = convolution->weight();
  const int64_t reach = w.size(2) / 2;
  double sum = convolution->bias()[out].item<double>();
  for (int64_t in = 0; in < x.size(1); ++in)
    for (int64_t i = -reach; i <= reach; ++i)
      for (int64_t j = -reach; j <= reach; ++j) {
        const int64_t r = row + i;
        const int64_t c = column + j;
        if (r < 0 || c < 0 || r >= x.size(2) || c >= x.size(3)) continue;
        sum += x[0][in][r][c].item<double>() * w[out][in][i + reach][j + reach].item<double>();
      }
  return sum;
}

TEST(Conv2dTest, KeepsTheSizeAndPadsWithZeros) {
  for (const int64_t kernel : {1, 3, 7}) {
    Conv2d convolution(2, 3, kernel, Precision::kFloat32);
    convolution->initialize(seeded(1));
    const torch::NoGradGuard no_grad;
    convolution->named_parameters()["b"].copy_(torch::tensor({0.5, -1.0, 2.0}));
    const auto x = torch::randn({1, 2, 5, 4}, seeded(2));
    const auto y = convolution(x);
    ASSERT_EQ(y.sizes(), (std::vector<int64_t>{1, 3, 5, 4}));
    for (int64_t out = 0; out < 3; ++out)
      for (int64_t row = 0; row < 5; ++row)
        for (int64_t column = 0; column < 4; ++column)
          EXPECT_NEAR(y[0][out][row][column].item<double>(),
                      pixel_by_hand(convolution, x, out, row, column), 1e-5);
  }
}

TEST(Conv2dTest, ParametersHaveTheReleasedCodesNamesAndStartAtZero) {
  const Conv2d convolution(4, 6, 3, Precision::kFloat32);
  const auto parameters = convolution->named_parameters();
  ASSERT_EQ(parameters.keys(), (std::vector<std::string>{"w", "b"}));
  EXPECT_EQ(parameters["w"].sizes(), (std::vector<int64_t>{6, 4, 3, 3}));
  EXPECT_EQ(parameters["b"].sizes(), (std::vector<int64_t>{6}));
  EXPECT_EQ(parameters["w"].count_nonzero().item<int64_t>(), 0);
}

TEST(Conv2dTest, InitializesWeightsByFanIn) {
  Conv2d convolution(32, 64, 3, Precision::kFloat32);
  convolution->initialize(seeded(1));
  EXPECT_NEAR(convolution->weight().std().item<double>() * std::sqrt(32.0 * 9.0), 1.0, 0.03);
  EXPECT_NEAR(convolution->weight().mean().item<double>() * std::sqrt(32.0 * 9.0), 0.0, 0.03);
  EXPECT_EQ(convolution->bias().count_nonzero().item<int64_t>(), 0);
  convolution->initialize(seeded(1), 2.0);
  EXPECT_NEAR(convolution->weight().std().item<double>(), 2.0, 0.06);
}

class Conv2dKernelTest : public testing::TestWithParam<int64_t> {};

TEST_P(Conv2dKernelTest, EqualsLibTorchsConvolutionInAnyMemoryFormat) {
  Conv2d convolution(4, 6, GetParam(), Precision::kFloat32);
  convolution->initialize(seeded(1));
  convolution->to(at::kDouble);
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    const auto x = torch::randn({2, 4, 5, 3}, seeded(2), at::TensorOptions(at::kDouble))
                       .contiguous(format)
                       .requires_grad_();
    const auto inputs = std::vector{x, convolution->weight(), convolution->bias()};
    const auto y = convolution(x);
    const auto expected = at::conv2d(x, convolution->weight(), convolution->bias(), /*stride=*/1,
                                     /*padding=*/GetParam() / 2);
    EXPECT_TRUE(torch::allclose(y, expected, 1e-12, 1e-12));
    EXPECT_TRUE(format == at::MemoryFormat::Contiguous || y.is_contiguous(format));
    const auto gradients = torch::autograd::grad({y.sin().sum()}, inputs);
    const auto expected_gradients = torch::autograd::grad({expected.sin().sum()}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i)
      EXPECT_TRUE(torch::allclose(gradients[i], expected_gradients[i], 1e-11, 1e-12)) << i;
  }
}

TEST_P(Conv2dKernelTest, ComputesInBfloat16FromFloat32Weights) {
  Conv2d exact(8, 8, GetParam(), Precision::kFloat32);
  Conv2d rounded(8, 8, GetParam(), Precision::kBfloat16);
  exact->initialize(seeded(1));
  rounded->initialize(seeded(1));
  const auto x = torch::randn({2, 8, 6, 6}, seeded(2));
  const auto y = rounded(x);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(torch::allclose(y.to(at::kFloat), exact(x), 0.05, 0.05));
  EXPECT_FALSE(torch::allclose(y.to(at::kFloat), exact(x), 1e-5, 1e-5));
  y.to(at::kFloat).square().sum().backward();
  EXPECT_EQ(rounded->weight().grad().scalar_type(), at::kFloat);
  EXPECT_GT(rounded->weight().grad().abs().sum().item<double>(), 0.0);
}

TEST_P(Conv2dKernelTest, ScalesItsOutputAndItsGradients) {
  Conv2d convolution(3, 2, GetParam(), Precision::kFloat32);
  convolution->initialize(seeded(1));
  convolution->to(at::kDouble);
  const auto x = torch::randn({1, 3, 4, 4}, seeded(2));
  const auto gradients = [&](const at::Tensor& y) {
    convolution->zero_grad();
    y.sin().sum().backward();
    return std::vector{convolution->weight().grad().clone(), convolution->bias().grad().clone()};
  };
  const auto inside = gradients(convolution(x, 0.25));
  const auto outside = gradients(0.25 * convolution(x));
  EXPECT_TRUE(torch::allclose(convolution(x, 0.25), 0.25 * convolution(x)));
  EXPECT_TRUE(torch::allclose(inside[0], outside[0]));
  EXPECT_TRUE(torch::allclose(inside[1], outside[1]));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Conv2dKernelTest, testing::Values(1, 3));

TEST(Conv2dTest, RunsInFloat64WhenMovedToFloat64) {
  Conv2d convolution(2, 2, 3, Precision::kFloat32);
  convolution->to(at::kDouble);
  EXPECT_EQ(convolution(torch::rand({1, 2, 4, 4})).scalar_type(), at::kDouble);
}

}  // namespace
}  // namespace dalle
