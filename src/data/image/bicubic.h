#pragma once

#include <cstdint>

#include "data/image/rgb_image.h"

namespace dalle {

/// Scales the short side of an image to `size` pixels, larger or smaller, and takes the central
/// square. Bicubic (a = -0.5), with antialiasing, as Pillow's BICUBIC, by which the released CLIP
/// models were trained: first the rows, then the columns, each rounded to 8 bits.
/// @param image  not empty
/// @throws dalle::Error if one side is more than 100 times as long as the other: the whole image is
///         scaled before it is cropped, which would need too much memory
RgbImage crop_bicubic(const RgbImage& image, int64_t size);

}  // namespace dalle
