#pragma once

#include <cstdint>
#include <string_view>

namespace dalle {

enum class PictureFileKind { kJpeg, kPng, kWebp, kBmp };

/// "JPEG", "PNG", "WebP" or "BMP".
std::string_view picture_file_name(PictureFileKind kind);

/// Whether `extension`, without its dot, is jpg, jpeg, jfif, png, webp or bmp, in any case.
bool is_picture_extension(std::string_view extension);

/// What an image file says of itself before a pixel is decoded.
struct PictureFile {
  PictureFileKind kind = PictureFileKind::kJpeg;
  int64_t width = 0;
  int64_t height = 0;
  std::string_view exif =
      {};  ///< the TIFF block of its EXIF data, a part of the bytes; empty: none
};

/// Larger pictures and files are refused before memory is asked for: their header may lie.
inline constexpr int64_t kMaxPicturePixels = 100'000'000;
inline constexpr uint64_t kMaxPictureFileBytes = uint64_t{1} << 30;

/// Walks the structure of an image file, cheaply and without trusting any number in it.
///
/// Finds PNG, WebP and uncompressed BMP files that are truncated. A JPEG's end can only be found by
/// decoding it (jpeg_decoder.h).
///
/// @throws dalle::Error if the bytes are empty, no JPEG, PNG, WebP or BMP (the message says what
///         they are instead, as far as it is known), truncated, animated, larger than
///         kMaxPictureFileBytes, or claim no pixel or more than kMaxPicturePixels
PictureFile inspect_picture_file(std::string_view bytes);

}  // namespace dalle
