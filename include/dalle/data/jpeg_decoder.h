#pragma once

#include <string_view>

#include "dalle/data/picture.h"

namespace dalle {

/// Decodes a JPEG as it is stored: baseline or progressive, grey, YCbCr, RGB or CMYK.
///
/// libjpeg is called directly because OpenCV hides its warnings, and a JPEG that is truncated or
/// corrupt decodes to a full-size picture with a grey or garbled rest and nothing but a warning.
/// Warnings that leave every pixel as it was meant (stray bytes between segments) are passed over.
///
/// @param bytes  what inspect_picture_file() has accepted as a JPEG
/// @throws dalle::Error with libjpeg's message if the file is corrupt or its end is missing, and if
///         it has so many scans that decoding takes too long
Picture decode_jpeg(std::string_view bytes);

}  // namespace dalle
