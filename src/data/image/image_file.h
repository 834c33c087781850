#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/fields.h"

namespace dalle {

enum class ImageFileKind { kJpeg, kPng, kWebp, kBmp };

constexpr auto enum_names(ImageFileKind) {
  using enum ImageFileKind;
  return std::to_array<std::pair<ImageFileKind, std::string_view>>(
      {{kJpeg, "JPEG"}, {kPng, "PNG"}, {kWebp, "WebP"}, {kBmp, "BMP"}});
}

/// Whether `extension` (without a dot) is jpg, jpeg, jfif, png, webp or bmp, ignoring case.
bool is_image_extension(std::string_view extension);

/// The properties of an image file that are known without decoding pixels.
struct ImageFile {
  ImageFileKind kind = ImageFileKind::kJpeg;
  int64_t width = 0;
  int64_t height = 0;
  std::string_view exif = {};  ///< TIFF block of the EXIF data, a view of the file; may be empty
};

/// Larger images and files are rejected before memory is allocated, because headers may be wrong.
inline constexpr int64_t kMaxImagePixels = 100'000'000;
inline constexpr uint64_t kMaxImageFileBytes = uint64_t{1} << 30;

/// Parses the structure of an image file and validates every offset and size.
///
/// Detects truncated PNG, WebP and uncompressed BMP files. A truncated JPEG is only detected when
/// it is decoded (jpeg_decoder.h).
///
/// @throws dalle::Error if the file is empty, truncated, animated, larger than kMaxImageFileBytes,
///         not a JPEG, PNG, WebP or BMP (the message says what it is, if known), or if its header
///         claims no pixels or more than kMaxImagePixels
ImageFile inspect_image_file(std::string_view bytes);

}  // namespace dalle
