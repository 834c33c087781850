#pragma once

#include <string_view>

#include "data/image/rgb_image.h"

namespace dalle {

/// Decodes a baseline or progressive JPEG (gray, YCbCr, RGB or CMYK) without applying its
/// orientation.
///
/// libjpeg is called directly because OpenCV hides its warnings, and a truncated or corrupt JPEG
/// only causes a warning: the rest of the image is gray or garbled. Warnings that do not affect
/// pixels (stray bytes between segments) are ignored.
///
/// @param bytes  a file that inspect_image_file() has accepted as a JPEG
/// @throws dalle::Error with libjpeg's message if the file is corrupt or truncated, or if it has so
///         many scans that decoding would take too long
RgbImage decode_jpeg(std::string_view bytes);

}  // namespace dalle
