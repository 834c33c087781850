#include "nn/logit_laplace.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "finite_differences.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

at::Tensor constant(double value) {
  return torch::full({1, 1, 1, 1}, value, at::kDouble);
}

double nll_at(double mean, double log_scale, double pixel) {
  return logit_laplace_nll(constant(mean), constant(log_scale), constant(pixel)).item<double>();
}

// The midpoints of `count` equal intervals of (0, 1).
at::Tensor grid(int64_t count) {
  return ((torch::arange(count, at::kDouble) + 0.5) / count).view({1, 1, 1, count});
}

TEST(PixelMapTest, MapsIntoTheOpenIntervalAndBack) {
  const auto images = torch::tensor({0.0, 0.5, 1.0}, at::kDouble);
  EXPECT_TRUE(torch::allclose(map_pixels(images), torch::tensor({0.1, 0.5, 0.9}, at::kDouble)));
  EXPECT_TRUE(torch::allclose(unmap_pixels(map_pixels(images)), images));
  EXPECT_TRUE(torch::equal(unmap_pixels(torch::tensor({0.0, 0.05, 0.95, 1.0})),
                           torch::tensor({0.0F, 0.0F, 1.0F, 1.0F})));
  EXPECT_NEAR(map_pixels(constant(0.0)).logit().item<double>(), -2.1972246, 1e-7);
}

TEST(LogitLaplaceTest, IsADensityOverTheUnitInterval) {
  for (const double mean : {0.0, 0.8, -1.5})
    for (const double log_scale : {-0.5, 0.0}) {
      double integral = 0.0;
      constexpr int64_t kPoints = 1000;
      for (int64_t i = 0; i < kPoints; ++i)
        integral += std::exp(-nll_at(mean, log_scale, (i + 0.5) / kPoints)) / kPoints;
      EXPECT_NEAR(integral, 1.0, 2e-3) << mean << " " << log_scale;
    }
}

TEST(LogitLaplaceTest, FollowsItsDefinition) {
  const double x = 0.3;
  const double b = std::exp(-0.7);
  const double density =
      std::exp(-std::abs(std::log(x / (1 - x)) - 0.4) / b) / (2 * b * x * (1 - x));
  EXPECT_NEAR(nll_at(0.4, -0.7, x), -std::log(density), 1e-12);
}

TEST(LogitLaplaceTest, HasTheKnownMeanForUniformImages) {
  const auto pixels = map_pixels(grid(100'000));
  const auto zero = torch::zeros_like(pixels);
  EXPECT_NEAR(logit_laplace_nll(zero, zero, pixels).item<double>(), -0.048107, 1e-6);
}

TEST(LogitLaplaceTest, GradientMatchesFiniteDifferences) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const auto options = at::TensorOptions(at::kDouble);
  const auto pixels = map_pixels(torch::rand({2, 3, 2, 2}, generator, options));
  const auto mean = torch::randn({2, 3, 2, 2}, generator, options);
  const auto log_scale = torch::randn({2, 3, 2, 2}, generator, options);
  EXPECT_LT(gradient_error(
                [&](const at::Tensor& m) { return logit_laplace_nll(m, log_scale, pixels); }, mean),
            1e-8);
  EXPECT_LT(gradient_error([&](const at::Tensor& s) { return logit_laplace_nll(mean, s, pixels); },
                           log_scale),
            1e-8);
}

TEST(LogitLaplaceTest, RejectsDifferentShapes) {
  EXPECT_THAT(
      [] {
        logit_laplace_nll(torch::zeros({1, 3, 4, 4}), torch::zeros({1, 3, 4, 4}),
                          torch::zeros({1, 3, 4, 8}));
      },
      ThrowsMessage<Error>(HasSubstr("pixels are Float [1, 3, 4, 8], expected one shape")));
}

}  // namespace
}  // namespace dalle
