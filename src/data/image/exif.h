#pragma once

#include <string_view>

#include "data/image/rgb_image.h"

namespace dalle {

/// Reads the orientation of the camera from EXIF data.
///
/// @param tiff  the TIFF block of the EXIF data (ImageFile::exif)
/// @return      1 to 8; 1 (upright) if the block is empty, corrupt or has no orientation
/// Source: CIPA DC-008 (Exif 2.32), tag 0x0112
int exif_orientation(std::string_view tiff);

/// Rotates and mirrors an image with EXIF orientation `orientation` (1 to 8) so that it is upright.
RgbImage upright(RgbImage image, int orientation);

}  // namespace dalle
