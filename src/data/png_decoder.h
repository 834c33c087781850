#pragma once

#include <string_view>

#include <opencv2/core/mat.hpp>

namespace dalle {

/// Decodes a PNG: palettes become colors, gray levels of 1 to 4 bits become 8, and a transparent
/// color becomes an alpha channel.
///
/// libpng is called directly because it prints its warnings (a faulty color profile, for instance)
/// to the terminal, a line for every decode, unless its caller takes them. None of them concerns
/// the pixels, so they are dropped. Its errors become the message.
///
/// @param bytes  what inspect_picture_file() has accepted as a PNG
/// @return [height, width] pixels of BGR or BGRA, 8 or 16 bits a channel
/// @throws dalle::Error with libpng's message if the file is corrupt
cv::Mat decode_png(std::string_view bytes);

}  // namespace dalle
