#include "optim/gradient_norm.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

double norm_of(const at::Tensor& flat) {
  return norm_of_blocks(block_square_sums(flat));
}

at::Tensor with_values(std::initializer_list<float> values) {
  const auto flat = torch::zeros({2 * kNormBlock});
  int64_t at = kNormBlock - 1;  // crosses the boundary between blocks
  for (const float value : values) flat[at++] = value;
  return flat;
}

TEST(GradientNorm, IsTheEuclideanNorm) {
  EXPECT_DOUBLE_EQ(norm_of(with_values({3, 4})), 5.0);
  torch::manual_seed(1);
  const auto flat = torch::randn({5 * kNormBlock});
  EXPECT_NEAR(norm_of(flat), flat.to(torch::kDouble).norm().item<double>(), 1e-9);
}

TEST(GradientNorm, DoesNotOverflowFloat32) {
  EXPECT_NEAR(norm_of(with_values({1e25F, 1e25F, 1e25F, 1e25F})), 2e25, 1e19);
}

TEST(GradientNorm, IsNotFiniteIfAGradientIsNot) {
  EXPECT_FALSE(std::isfinite(norm_of(with_values({1, std::nanf("")}))));
  EXPECT_FALSE(std::isfinite(norm_of(with_values({1, INFINITY}))));
}

TEST(GradientNorm, OfABlockDoesNotDependOnOtherBlocks) {
  torch::manual_seed(2);
  const auto flat = torch::randn({8 * kNormBlock});
  const auto sums = block_square_sums(flat);
  for (int64_t block = 0; block < 8; ++block)
    EXPECT_TRUE(torch::equal(block_square_sums(flat.narrow(0, block * kNormBlock, kNormBlock)),
                             sums.narrow(0, block, 1)));
}

}  // namespace
}  // namespace dalle
