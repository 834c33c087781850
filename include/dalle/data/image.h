#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "dalle/core/seeds.h"
#include "dalle/data/picture.h"

namespace dalle {

/// Decodes a JPEG, PNG, WebP or BMP file: applies the EXIF orientation, widens grey to RGB, narrows
/// 16 bits to 8 and lays transparent pictures over `background` (a grey level, 255 = white).
///
/// @throws dalle::Error if the bytes are empty, no known picture, or cut short (a truncated JPEG,
/// which
///         decoders fill with grey, included)
Picture decode_picture(std::string_view bytes, uint8_t background = 255);

enum class PictureFormat { kPng, kJpeg, kWebp };

/// The format that a name such as png, jpg, jpeg or webp stands for, in any case; nothing for other
/// names.
std::optional<PictureFormat> find_picture_format(std::string_view name);

/// "png", "jpg" or "webp".
std::string_view extension_of(PictureFormat format);

/// The most pixels that an image of the format may have along a side.
int64_t longest_side(PictureFormat format);

/// The bytes of an image file; PNG is lossless, JPEG and WebP are written at quality 95.
std::string encode_picture(const Picture& picture, PictureFormat format);

/// How a picture becomes a square of the training size.
enum class CropKind {
  kDvae,         ///< random square, random scale, random crop, random flip (listing 1)
  kTransformer,  ///< nearly central square, slight random scale and crop, no flip (listing 2)
  kCenter,       ///< central square scaled to size: validation, reconstruction and demonstrations
};

/// Cuts a `size` x `size` picture out of `picture`.
///
/// The listings' numbers are for 256: a scaled side is drawn from [min(s, 9/8 size), min(s, 12/8
/// size)] for kDvae and [size, min(s, 9/8 size)] for kTransformer, s the short side. `random` is
/// read by the random kinds only.
///
/// @throws dalle::Error if the short side is less than `size`
/// Source: Ramesh et al. 2021, listings 1 and 2; cv::INTER_AREA stands in for TensorFlow's AREA
Picture crop_picture(const Picture& picture, int64_t size, CropKind kind, SeedStream& random);

/// @return [3, height, width] uint8
at::Tensor picture_to_tensor(const Picture& picture);

/// @param image  [3, H, W] uint8, or floating point in [0, 1], which is clamped and rounded
/// @throws dalle::Error if a value is not finite
Picture tensor_to_picture(const at::Tensor& image);

}  // namespace dalle
