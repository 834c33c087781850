#include "eval/gaussian_blur.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

// scipy.ndimage.gaussian_filter(mode="nearest", truncate=4) of SciPy 1.17.1, from
// tests/fixtures/image_distances.py.
TEST(GaussianBlurTest, AgreesWithScipyAtCornersAndInside) {
  const at::Tensor x = torch::arange(9, at::kDouble).view({1, 1, 1, 9});
  const at::Tensor y = torch::arange(12, at::kDouble).view({1, 1, 12, 1});
  const at::Tensor c = torch::arange(3, at::kDouble).view({1, 3, 1, 1});
  const at::Tensor image =
      0.5 + 0.3 * (0.3 * y + 0.5 * x + c).sin() + 0.2 * (0.05 * y + 0.03 * x).sin();
  const at::Tensor narrow = gaussian_blur(image, 1)[0];
  EXPECT_NEAR(narrow[0][0][0].item<double>(), 0.5843292053225602, 1e-12);
  EXPECT_NEAR(narrow[1][5][4].item<double>(), 0.3247858081406183, 1e-12);
  EXPECT_NEAR(narrow[2][11][8].item<double>(), 0.7494492704918405, 1e-12);
  const at::Tensor wide = gaussian_blur(image, 2.5)[0];  // reaches farther than the image
  EXPECT_NEAR(wide[0][0][0].item<double>(), 0.6476531365401359, 1e-12);
  EXPECT_NEAR(wide[1][5][4].item<double>(), 0.46263051521405063, 1e-12);
  EXPECT_NEAR(wide[2][11][8].item<double>(), 0.7822423777538098, 1e-12);
}

TEST(GaussianBlurTest, KeepsFlatImages) {
  const at::Tensor flat = torch::full({2, 3, 5, 7}, 0.25);
  EXPECT_TRUE(gaussian_blur(flat, 4).allclose(flat));
}

}  // namespace
}  // namespace dalle
