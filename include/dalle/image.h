#pragma once

#include <cstdint>
#include <filesystem>

#include <ATen/core/Tensor.h>

#include "dalle/export.h"

namespace dalle {

/// Reads a JPEG, PNG, WebP or BMP file as 8-bit RGB. Applies its EXIF orientation and composites
/// transparent images onto white. These functions set OpenCV's number of threads to one.
///
/// @return  [3, height, width] uint8 on the CPU
/// @throws dalle::Error naming the file if it cannot be read, is not an image, or is truncated
DALLE_API at::Tensor load_image(const std::filesystem::path& path);

/// Same, but center-crops the image to a square and scales it to `size`, like validation images if
/// `data.background` is 255, the default.
///
/// @return  [3, size, size] uint8 on the CPU
/// @throws dalle::Error also if `size` is not positive or the image is smaller
DALLE_API at::Tensor load_image(const std::filesystem::path& path, int64_t size);

/// Writes an image in the format of the file name: .png (lossless), .jpg, .jpeg or .webp
/// (quality 95). An existing file is replaced; its folder must exist.
///
/// @param image  [3, height, width] on any device: uint8, or floating point in [0, 1], which is
///               clamped and rounded
/// @throws dalle::Error naming the file if its extension is unknown, the tensor has the wrong shape
///         or type or contains a value that is not finite, or writing fails
DALLE_API void save_image(const at::Tensor& image, const std::filesystem::path& path);

}  // namespace dalle
