#include "eval/reconstruction.h"

#include <cmath>
#include <limits>
#include <utility>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(CodebookHealthTest, CountsUsedCodesAndTheirPerplexity) {
  const auto uniform = codebook_health(code_counts(torch::arange(8).view({2, 2, 2}), 8));
  EXPECT_DOUBLE_EQ(uniform.used_share, 1.0);
  EXPECT_NEAR(uniform.perplexity, 8.0, 1e-12);

  const auto collapsed = codebook_health(code_counts(torch::full({4, 2, 2}, 5, at::kLong), 8));
  EXPECT_DOUBLE_EQ(collapsed.used_share, 1.0 / 8);
  EXPECT_NEAR(collapsed.perplexity, 1.0, 1e-12);

  const auto skewed = codebook_health(code_counts(torch::tensor({0, 0, 0, 1}).view({1, 2, 2}), 4));
  EXPECT_DOUBLE_EQ(skewed.used_share, 0.5);
  EXPECT_NEAR(skewed.perplexity, 4 / std::pow(3.0, 0.75), 1e-12);
}

TEST(PositionCodesTest, CountsAndEntropyAreSeparateForEachPosition) {
  // Positions: 0 0 1 2 (1.0397 nats, 1.5 bits), 1 1 1 1 (none), 0 1 2 2.
  const auto codes = torch::tensor({0, 1, 0, 0, 1, 1, 1, 1, 2, 2, 1, 2}).view({4, 1, 3});
  const auto counts = position_code_counts(codes, 4);
  EXPECT_TRUE(counts.equal(torch::tensor({2, 1, 1, 0, 0, 4, 0, 0, 1, 1, 2, 0}).view({3, 4})));
  EXPECT_TRUE(counts.sum(0).equal(code_counts(codes, 4)));
  const auto entropy = position_entropy(counts);
  EXPECT_NEAR(entropy[0].item<double>(), 1.0397207708399179, 1e-12);
  EXPECT_NEAR(entropy[1].item<double>(), 0.0, 1e-12);
  EXPECT_NEAR(entropy[2].item<double>(), 1.0397207708399179, 1e-12);
}

TEST(ShiftRightTest, RepeatsTheFirstColumn) {
  const auto image = torch::arange(6, at::kFloat).view({1, 1, 2, 3});
  EXPECT_TRUE(shift_right(image).equal(
      torch::tensor({0.0F, 0.0F, 1.0F, 3.0F, 3.0F, 4.0F}).view({1, 1, 2, 3})));
}

// Images of 24 x 17 pixels that are easy to reproduce, and their scores according to scikit-image
// 0.26.0 (structural_similarity with gaussian_weights, sigma 1.5, use_sample_covariance=False).
class ReconstructionTest : public testing::Test {
 protected:
  const at::Tensor row = torch::arange(24, at::kDouble).view({1, 24, 1});
  const at::Tensor column = torch::arange(17, at::kDouble).view({1, 1, 17});
  const at::Tensor channel = torch::arange(3, at::kDouble).view({3, 1, 1});
  const at::Tensor phase = 0.3 * row + 0.5 * column + channel;
  const at::Tensor image = 0.5 + 0.5 * phase.sin();
  const at::Tensor unlike = 0.5 + 0.4 * (phase + 0.2).sin() * (0.1 * row * column).cos();
  const at::Tensor flatter = 0.9 * image + 0.05;
  const at::Tensor images = torch::stack({image, image});
  const at::Tensor reconstructions = torch::stack({unlike, flatter});
};

TEST_F(ReconstructionTest, PsnrAgreesWithScikitImage) {
  const auto decibels = psnr(images, reconstructions);
  ASSERT_EQ(decibels.sizes(), (std::vector<int64_t>{2}));
  EXPECT_NEAR(decibels[0].item<double>(), 8.232151093963523, 1e-9);
  EXPECT_NEAR(decibels[1].item<double>(), 29.02991578827752, 1e-9);
}

TEST_F(ReconstructionTest, StructuralSimilarityAgreesWithScikitImage) {
  const auto similarity = structural_similarity(images, reconstructions).single_scale;
  ASSERT_EQ(similarity.sizes(), (std::vector<int64_t>{2}));
  EXPECT_NEAR(similarity[0].item<double>(), 0.004334097612799921, 1e-9);
  EXPECT_NEAR(similarity[1].item<double>(), 0.9917605845260967, 1e-9);
}

/// Two images [1, channels, height, width] in float64, as tests/fixtures/image_distances.py has
/// them.
std::pair<at::Tensor, at::Tensor> waves(int64_t channels, int64_t height, int64_t width) {
  const at::Tensor x = torch::arange(width, at::kDouble).view({1, 1, 1, width});
  const at::Tensor y = torch::arange(height, at::kDouble).view({1, 1, height, 1});
  const at::Tensor c = torch::arange(channels, at::kDouble).view({1, channels, 1, 1});
  const at::Tensor phase = 0.3 * y + 0.5 * x + c, slow = 0.05 * y + 0.03 * x;
  return {0.5 + 0.3 * phase.sin() + 0.2 * slow.sin(),
          0.5 + 0.3 * (phase + 0.2).sin() * (0.01 * x).cos() + 0.2 * (1.1 * slow).sin()};
}

// pytorch-msssim 1.0.0, from tests/fixtures/image_distances.py.
TEST(MultiScaleSimilarityTest, AgreesWithPytorchMsssimOnFiveScales) {
  const auto [images, others] = waves(3, 176, 192);
  EXPECT_NEAR(structural_similarity(images, others).multi_scale[0].item<double>(),
              0.6789154628718638, 1e-6);
}

// The same with the first three weights, divided by their sum.
TEST(MultiScaleSimilarityTest, AgreesWithPytorchMsssimOnThreeScales) {
  EXPECT_EQ(similarity_scales(46), 3);
  const auto [images, others] = waves(3, 46, 48);
  EXPECT_NEAR(structural_similarity(images, others).multi_scale[0].item<double>(),
              0.9779296910806624, 1e-6);
}

TEST(MultiScaleSimilarityTest, SmallImagesHaveFewerScales) {
  EXPECT_EQ(similarity_scales(10), 0);
  EXPECT_EQ(similarity_scales(11), 1);
  EXPECT_EQ(similarity_scales(64), 3);
  EXPECT_EQ(similarity_scales(175), 4);
  EXPECT_EQ(similarity_scales(176), 5);
  EXPECT_EQ(similarity_scales(4096), 5);
  const auto [images, others] = waves(3, 16, 21);
  EXPECT_NEAR(structural_similarity(images, others).multi_scale[0].item<double>(),
              structural_similarity(images, others).single_scale[0].item<double>(), 1e-12);
}

TEST(MultiScaleSimilarityTest, IsOneForEqualImagesAndNeverBelowZero) {
  const auto [images, others] = waves(3, 32, 32);
  EXPECT_NEAR(structural_similarity(images, images).multi_scale[0].item<double>(), 1.0, 1e-12);
  EXPECT_EQ(structural_similarity(images, 1 - images).multi_scale[0].item<double>(), 0.0);
}

TEST_F(ReconstructionTest, EqualImagesHavePerfectScores) {
  EXPECT_EQ(psnr(images, images)[0].item<double>(), std::numeric_limits<double>::infinity());
  EXPECT_NEAR(structural_similarity(images, images).single_scale[0].item<double>(), 1.0, 1e-12);
}

TEST_F(ReconstructionTest, AcceptsFloat32Images) {
  EXPECT_NEAR(psnr(images.to(at::kFloat), reconstructions.to(at::kFloat))[0].item<double>(),
              8.232151, 1e-5);
}

}  // namespace
}  // namespace dalle
