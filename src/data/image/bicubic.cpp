#include "data/image/bicubic.h"

#include <algorithm>

#include <torch/types.h>

#include "core/error.h"
#include "data/image/image.h"

namespace dalle {
namespace {

constexpr int64_t kMaxAspectRatio = 100;

/// @param levels  [1, 3, H, W] from 0 to 255
at::Tensor scaled(const at::Tensor& levels, int64_t height, int64_t width) {
  if (levels.size(2) == height && levels.size(3) == width) return levels;
  return at::_upsample_bicubic2d_aa(levels, {height, width}, /*align_corners=*/false)
      .round_()
      .clamp_(0, 255);
}

}  // namespace

RgbImage crop_bicubic(const RgbImage& image, int64_t size) {
  const int64_t side = std::min(image.width, image.height);
  DALLE_CHECK(side > 0 && size > 0);
  if (std::max(image.width, image.height) > kMaxAspectRatio * side)
    throw Error("found an image of {} x {} pixels, expected an aspect ratio of at most {}",
                image.width, image.height, kMaxAspectRatio);
  const int64_t height = image.height * size / side, width = image.width * size / side;
  at::Tensor x = image_to_tensor(image).to(at::kFloat).unsqueeze(0);  // [1, 3, H, W]
  x = scaled(scaled(x, image.height, width), height, width);
  x = x.narrow(2, (height - size) / 2, size).narrow(3, (width - size) / 2, size);
  return tensor_to_image(x[0].to(at::kByte));
}

}  // namespace dalle
