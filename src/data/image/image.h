#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "core/fields.h"
#include "core/seeds.h"
#include "data/image/rgb_image.h"

namespace dalle {

/// Decodes a JPEG, PNG, WebP or BMP file to 8-bit RGB. Applies the EXIF orientation and blends
/// transparent images with `background` (a gray level, 255 = white).
///
/// @throws dalle::Error if the bytes are empty, not an image, corrupt or truncated. This includes
///         truncated JPEGs, which decoders would fill with gray.
RgbImage decode_image(std::string_view bytes, uint8_t background = 255);

enum class ImageFormat { kPng, kJpeg, kWebp };

/// The extensions of files.
constexpr auto enum_names(ImageFormat) {
  using enum ImageFormat;
  return std::to_array<std::pair<ImageFormat, std::string_view>>(
      {{kPng, "png"}, {kJpeg, "jpg"}, {kWebp, "webp"}});
}

/// Returns the format named png, jpg, jpeg or webp, ignoring case; nothing for other names.
std::optional<ImageFormat> find_image_format(std::string_view name);

/// The longest side that the format supports, in pixels.
int64_t longest_side(ImageFormat format);

/// Encodes an image file.
/// @param quality  of JPEG and WebP, 0 to 100; PNG is lossless
std::string encode_image(const RgbImage& image, ImageFormat format, int quality = 95);

/// How an image is cropped to a square of the training size.
enum class CropKind {
  kDvae,         ///< random square, random scale, random crop, random flip (listing 1)
  kTransformer,  ///< roughly central square, slight random scale and crop, no flip (listing 2)
  kCenter,       ///< central square, scaled to size, for validation and reconstruction
};

/// Crops and scales an image to `size` x `size` pixels.
///
/// The listings are for size 256. Here, with s the short side, the scaled side is uniform in
/// [min(s, 9/8 size), min(s, 12/8 size)] for kDvae and in [size, min(s, 9/8 size)] for
/// kTransformer. kCenter does not use `random`.
///
/// @throws dalle::Error if the short side is less than `size`
/// Source: Ramesh et al. 2021, listings 1 and 2; with cv::INTER_AREA for TensorFlow's AREA
RgbImage crop_image(const RgbImage& image, int64_t size, CropKind kind, SeedStream& random);

/// crop_image() with CropKind::kCenter.
RgbImage center_crop(const RgbImage& image, int64_t size);

/// @return [3, height, width] uint8
at::Tensor image_to_tensor(const RgbImage& image);

/// @param images  [B, 3, H, W] uint8
/// @return        float32 in [0, 1] on `device`
at::Tensor unit_images(const at::Tensor& images, c10::Device device);

/// @param image  [3, H, W] uint8, or floating point in [0, 1], which is clamped and rounded
/// @throws dalle::Error if a value is not finite
RgbImage tensor_to_image(const at::Tensor& image);

}  // namespace dalle
