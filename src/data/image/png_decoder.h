#pragma once

#include <string_view>

#include <opencv2/core/mat.hpp>

namespace dalle {

/// Decodes a PNG. Expands palettes to colors, gray levels of 1 to 4 bits to 8 bits, and a
/// transparent color to an alpha channel.
///
/// libpng is called directly because it prints a warning per decoded image (about a faulty color
/// profile, for example) unless the caller handles warnings. They do not affect pixels and are
/// ignored.
///
/// @param bytes  a file that inspect_image_file() has accepted as a PNG
/// @return [height, width] pixels, BGR or BGRA, 8 or 16 bits per channel
/// @throws dalle::Error with libpng's message if the file is corrupt
cv::Mat decode_png(std::string_view bytes);

}  // namespace dalle
