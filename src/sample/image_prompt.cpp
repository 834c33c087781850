#include "sample/image_prompt.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <tuple>

#include <fmt/format.h>
#include <torch/types.h>

#include "data/image/image.h"
#include "data/image/image_file.h"
#include "sample/caption_images.h"
#include "tensor/device_of.h"

namespace dalle {
namespace {

/// [height, width] bool: the opaque pixels of a mask, or its light ones.
at::Tensor selected_pixels(std::string_view file) {
  // Where the background shows through, the two differ by 255 times one minus the opacity.
  const at::Tensor on_black = image_to_tensor(decode_image(file, 0));
  const at::Tensor is_opaque = (image_to_tensor(decode_image(file, 255)) - on_black).lt(128).all(0);
  if (!is_opaque.all().item<bool>()) return is_opaque;
  return on_black.sum(0, /*keepdim=*/false, at::kInt).ge(3 * 128);
}

/// The member that says what to keep.
std::string keeping_member(const ImagePromptRequest& request) {
  if (request.keep_rows) return "keep_rows";
  if (request.keep) return "keep";
  return request.mask ? "mask" : "image";
}

/// [S, S] bool
at::Tensor requested_pixels(const ImagePromptRequest& request, const RgbImage& original,
                            int64_t size) {
  if (request.keep_rows) return keep_upper_rows(*request.keep_rows, size);
  if (request.keep) return keep_rectangle(*request.keep, size);
  if (request.mask) return keep_masked(*request.mask, original, size, request.mask_keeps);
  return torch::ones({size, size}, at::kBool);  // only a variation
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

at::Tensor keep_masked(std::string_view file, const RgbImage& original, int64_t size,
                       MaskKeeps kept_part) {
  const auto wrong_size = [&](int64_t width, int64_t height) {
    return Error("found {} x {} pixels, expected {} x {} like the image, or {} x {}", width, height,
                 original.width, original.height, size, size);
  };
  // Before it is decoded, because a small file may be a large image. EXIF data may rotate it.
  const ImageFile header = inspect_image_file(file);
  const int64_t pixels = header.width * header.height;
  if (pixels != original.width * original.height && pixels != size * size)
    throw wrong_size(header.width, header.height);
  const at::Tensor selected = selected_pixels(file);
  const at::Tensor kept =
      kept_part == MaskKeeps::kOpaqueOrLight ? selected : selected.logical_not();
  const auto has_size = [&](int64_t height, int64_t width) {
    return kept.size(0) == height && kept.size(1) == width;
  };
  if (!has_size(original.height, original.width) && !has_size(size, size))
    throw wrong_size(kept.size(1), kept.size(0));
  // The square that center_crop() takes. Each pixel of the result stands for all that it is scaled
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
  const at::Tensor pixels = unit_images(image_to_tensor(image).unsqueeze(0), device_of(*vae));
  const at::Tensor codes = vae->encode(pixels)[0].cpu();  // [h, w]
  return at::where(kept_codes, codes, at::full_like(codes, kFreeCode)).flatten().contiguous();
}

ImagePrompt prepare_image_prompt(const ImagePromptRequest& request, const DiscreteVae& vae,
                                 int64_t size, uint8_t background) {
  DALLE_CHECK(request.keep_rows.has_value() + request.keep.has_value() + request.mask.has_value() <=
              1);
  ImagePrompt prompt{.variation = request.variation.value_or(0)};
  RgbImage original;
  blaming_member("image", [&] {
    original = decode_image(request.image, background);
    prompt.image = center_crop(original, size);
  });
  const std::string member = keeping_member(request);
  prompt.kept_pixels =
      blaming_member(member, [&] { return requested_pixels(request, original, size); });
  const int64_t grid = vae->config().grid_size(size), cell = size / grid;
  const at::Tensor codes = kept_codes(prompt.kept_pixels, grid);
  prompt.kept = codes.sum().item<int64_t>();
  if (prompt.kept == 0)
    throw ImagePromptError(
        member,
        fmt::format("no code would be kept; a code is kept if all of its {} x {} pixels are", cell,
                    cell));
  prompt.unseen = count_unseen(codes);
  if (request.strict && prompt.unseen > 0)
    throw ImagePromptError("strict", describe_unseen(prompt.unseen));
  prompt.forced = prompt_codes(vae, prompt.image, codes);
  return prompt;
}

std::string describe_unseen(int64_t codes) {
  return fmt::format(
      "codes are generated row by row from the upper left, so {} of the kept codes come after "
      "generated ones, which cannot take them into account",
      codes);
}

RgbImage paste(const RgbImage& original, const at::Tensor& kept_pixels, const RgbImage& generated) {
  return tensor_to_image(
      at::where(kept_pixels, image_to_tensor(original), image_to_tensor(generated)));
}

}  // namespace dalle
