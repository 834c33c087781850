#include "sample/image_prompt.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <tuple>

#include <torch/types.h>

#include "core/error.h"
#include "data/image/image.h"
#include "data/image/image_file.h"
#include "sample/generate_codes.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

/// [height, width] bool: the pixels of a mask that are kept.
at::Tensor kept_pixels_of(std::string_view file) {
  // Where the background shows through, the two differ by 255 times one minus the opacity.
  const at::Tensor on_black = image_to_tensor(decode_image(file, 0));
  const at::Tensor is_opaque = (image_to_tensor(decode_image(file, 255)) - on_black).lt(128).all(0);
  if (!is_opaque.all().item<bool>()) return is_opaque;
  return on_black.sum(0, /*keepdim=*/false, at::kInt).ge(3 * 128);
}

}  // namespace

at::Tensor keep_upper_rows(double part, int64_t size) {
  DALLE_CHECK(part >= 0 && part <= 1);
  constexpr double kRounding = 1e-9;  // 0.29 * 100 is less than 29
  const auto rows = static_cast<int64_t>(part * static_cast<double>(size) + kRounding);
  at::Tensor kept = torch::zeros({size, size}, at::kBool);
  kept.narrow(0, 0, rows).fill_(true);
  return kept;
}

at::Tensor keep_rectangle(const PixelRectangle& rectangle, int64_t size) {
  const auto& [x, y, width, height] = rectangle;
  if (x < 0 || y < 0 || width < 1 || height < 1 || width > size || height > size ||
      x > size - width || y > size - height)
    throw Error(
        "found {},{},{},{}, expected x,y,width,height inside the {} x {} pixels of an image", x, y,
        width, height, size, size);
  at::Tensor kept = torch::zeros({size, size}, at::kBool);
  kept.narrow(0, y, height).narrow(1, x, width).fill_(true);
  return kept;
}

at::Tensor keep_masked(std::string_view file, const RgbImage& original, int64_t size) {
  const auto wrong_size = [&](int64_t width, int64_t height) {
    return Error("found {} x {} pixels, expected {} x {} like the image, or {} x {}", width, height,
                 original.width, original.height, size, size);
  };
  // Before it is decoded, because a small file may be a large image. EXIF data may rotate it.
  const ImageFile header = inspect_image_file(file);
  const int64_t pixels = header.width * header.height;
  if (pixels != original.width * original.height && pixels != size * size)
    throw wrong_size(header.width, header.height);
  const at::Tensor kept = kept_pixels_of(file);
  const auto has_size = [&](int64_t height, int64_t width) {
    return kept.size(0) == height && kept.size(1) == width;
  };
  if (!has_size(original.height, original.width) && !has_size(size, size))
    throw wrong_size(kept.size(1), kept.size(0));
  // The square that crop_image() takes. Each pixel of the result stands for all that it is scaled
  // from.
  const int64_t side = std::min(kept.size(0), kept.size(1));
  const at::Tensor square =
      kept.narrow(0, (kept.size(0) - side) / 2, side).narrow(1, (kept.size(1) - side) / 2, side);
  const at::Tensor lost = square.logical_not().to(at::kFloat).unsqueeze(0);
  return std::get<0>(at::adaptive_max_pool2d(lost, {size, size}))[0].eq(0);
}

at::Tensor kept_codes(const at::Tensor& pixels, int64_t grid) {
  const int64_t cell = pixels.size(0) / grid;
  return pixels.view({grid, cell, grid, cell}).all(3).all(1);
}

int64_t count_unseen(const at::Tensor& kept_codes) {
  const at::Tensor kept = kept_codes.flatten().to(at::kLong);
  return (kept - kept.cumprod(0)).sum().item<int64_t>();
}

at::Tensor prompt_codes(DiscreteVae vae, const RgbImage& image, const at::Tensor& kept_codes) {
  const at::Device device = device_of(*vae);
  const at::Tensor pixels =
      image_to_tensor(image).unsqueeze(0).to(device).to(torch::kFloat32).div(255);
  const at::Tensor codes = vae->encode(pixels)[0].cpu();  // [h, w]
  return at::where(kept_codes, codes, at::full_like(codes, kFreeCode)).flatten().contiguous();
}

RgbImage paste(const RgbImage& original, const at::Tensor& kept_pixels, const RgbImage& generated) {
  return tensor_to_image(
      at::where(kept_pixels, image_to_tensor(original), image_to_tensor(generated)));
}

}  // namespace dalle
