#include "eval/gaussian_blur.h"

#include <cmath>

#include <torch/types.h>

namespace dalle {

at::Tensor gaussian_window(int64_t size, double standard_deviation,
                           const at::TensorOptions& options) {
  const auto offsets = torch::arange(size, options) - (size - 1) / 2;
  const auto weights = (-offsets.square() / (2 * standard_deviation * standard_deviation)).exp();
  return weights / weights.sum();
}

at::Tensor filter_images(const at::Tensor& images, const at::Tensor& window) {
  const int64_t size = window.numel();
  return at::conv2d(at::conv2d(images, window.view({1, 1, size, 1})), window.view({1, 1, 1, size}));
}

at::Tensor gaussian_blur(const at::Tensor& images, double standard_deviation) {
  const int64_t radius = std::lround(4 * standard_deviation);
  const auto window = gaussian_window(2 * radius + 1, standard_deviation, images.options());
  const auto channels = images.flatten(0, 1).unsqueeze(1);  // [B C, 1, H, W]
  const auto padded = at::replication_pad2d(channels, {radius, radius, radius, radius});
  return filter_images(padded, window).view_as(images);
}

}  // namespace dalle
