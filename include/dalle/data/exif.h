#pragma once

#include <string_view>

#include "dalle/data/picture.h"

namespace dalle {

/// How a camera was held, as its EXIF data tell.
///
/// @param tiff  the TIFF block of the EXIF data (PictureFile::exif)
/// @return      1 to 8; 1, upright, where the block is empty, damaged or silent on it
/// Source: CIPA DC-008 (Exif 2.32), tag 0x0112
int exif_orientation(std::string_view tiff);

/// Turns and mirrors a picture stored with `orientation` (1 to 8) upright.
Picture upright(Picture picture, int orientation);

}  // namespace dalle
