#include "eval/reconstruction.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <numeric>

#include <torch/types.h>

#include "core/error.h"
#include "eval/gaussian_blur.h"

namespace dalle {
namespace {

constexpr int64_t kWindow = 11;
constexpr double kWindowStd = 1.5;
constexpr double kLuminanceConstant = 0.01 * 0.01;  // (K1 * range)^2
constexpr double kContrastConstant = 0.03 * 0.03;   // (K2 * range)^2
constexpr std::array<double, 5> kScaleWeights = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};

/// The two factors of SSIM in each window inside the image.
struct SimilarityMaps {
  at::Tensor luminance;
  at::Tensor structure;  // times contrast
};

/// @param x, y  [N, 1, H, W] float64
/// @return      each [N, 1, H - 10, W - 10]
SimilarityMaps similarity_maps(const at::Tensor& x, const at::Tensor& y) {
  const auto window = gaussian_window(kWindow, kWindowStd, x.options());
  const auto mean_x = filter_images(x, window);
  const auto mean_y = filter_images(y, window);
  const auto variance_x = filter_images(x * x, window) - mean_x * mean_x;
  const auto variance_y = filter_images(y * y, window) - mean_y * mean_y;
  const auto covariance = filter_images(x * y, window) - mean_x * mean_y;
  return {.luminance = (2 * mean_x * mean_y + kLuminanceConstant) /
                       (mean_x.square() + mean_y.square() + kLuminanceConstant),
          .structure =
              (2 * covariance + kContrastConstant) / (variance_x + variance_y + kContrastConstant)};
}

/// Each channel as an image of its own: [B C, 1, H, W] float64.
at::Tensor channels_of(const at::Tensor& images) {
  return images.to(at::kDouble).flatten(0, 1).unsqueeze(1);
}

}  // namespace

at::Tensor code_counts(const at::Tensor& codes, int64_t vocab_size) {
  return codes.flatten().bincount(/*weights=*/{}, vocab_size);
}

CodebookHealth codebook_health(const at::Tensor& counts) {
  const auto used = counts.masked_select(counts > 0).to(at::kDouble);
  const auto shares = used / used.sum();
  return {.used_share = static_cast<double>(used.numel()) / static_cast<double>(counts.numel()),
          .perplexity = std::exp(-(shares * shares.log()).sum().item<double>())};
}

at::Tensor position_code_counts(const at::Tensor& codes, int64_t vocab_size) {
  const auto at_position = codes.flatten(1);  // [B, h w]
  const int64_t positions = at_position.size(1);
  const auto offsets = torch::arange(positions, codes.options()) * vocab_size;
  return (at_position + offsets)
      .flatten()
      .bincount(/*weights=*/{}, positions * vocab_size)
      .view({positions, vocab_size});
}

at::Tensor position_entropy(const at::Tensor& counts) {
  const auto shares = counts.to(at::kDouble) / counts.sum(1, /*keepdim=*/true);
  return -at::xlogy(shares, shares).sum(1);
}

at::Tensor shift_right(const at::Tensor& images) {
  return at::cat({images.narrow(3, 0, 1), images.narrow(3, 0, images.size(3) - 1)}, 3);
}

at::Tensor psnr(const at::Tensor& images, const at::Tensor& reconstructions) {
  DALLE_CHECK(images.sizes() == reconstructions.sizes());
  const auto error = images.to(at::kDouble) - reconstructions.to(at::kDouble);
  return error.square().mean({1, 2, 3}).log10().mul(-10.0);
}

int64_t similarity_scales(int64_t side) {
  int64_t scales = 0;
  for (; scales < std::ssize(kScaleWeights) && side >= kWindow; side /= 2) ++scales;
  return scales;
}

Similarity structural_similarity(const at::Tensor& images, const at::Tensor& reconstructions) {
  DALLE_CHECK(images.sizes() == reconstructions.sizes());
  const int64_t scales = similarity_scales(std::min(images.size(2), images.size(3)));
  const bool has_all_scales = scales == std::ssize(kScaleWeights);
  const double total =  // all five sum to 1.0001, and the usual MS-SSIM does not divide by that
      has_all_scales ? 1
                     : std::accumulate(kScaleWeights.begin(), kScaleWeights.begin() + scales, 0.0);
  auto x = channels_of(images), y = channels_of(reconstructions);
  auto product = torch::ones({x.size(0)}, x.options());  // [B C]
  at::Tensor finest;                                     // [B C]
  for (int64_t scale = 0; scale < scales; ++scale) {
    if (scale > 0) x = at::avg_pool2d(x, 2), y = at::avg_pool2d(y, 2);
    const auto [luminance, structure] = similarity_maps(x, y);
    const auto both = (luminance * structure).mean({1, 2, 3});
    if (scale == 0) finest = both;
    const auto similarity = scale + 1 == scales ? both : structure.mean({1, 2, 3});
    const double weight = kScaleWeights[static_cast<size_t>(scale)] / total;
    product = product * similarity.clamp_min(0).pow(weight);
  }
  const auto mean_of_channels = [&](const at::Tensor& values) {
    return values.view({images.size(0), -1}).mean(1);
  };
  return {.single_scale = mean_of_channels(finest), .multi_scale = mean_of_channels(product)};
}

}  // namespace dalle
