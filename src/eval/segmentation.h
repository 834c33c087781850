#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/image/rgb_image.h"

namespace dalle {

/// A square image with one float plane each for red, green and blue; values are in [0, 255].
struct ColorPlanes {
  int64_t side = 0;
  std::array<std::vector<float>, 3> planes;  ///< side * side values each, rows from the top
};

/// Resizes a square image with a bicubic kernel (Catmull-Rom) and clamps the result to [0, 255].
/// For downscaling, the kernel is widened by the scale factor.
ColorPlanes resize_bicubic(const RgbImage& image, int64_t side);

/// A set of pixels of an image or of a part of one.
struct PixelMask {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;  ///< height * width values of 1 or 0, rows from the top

  bool at(int64_t row, int64_t column) const {
    return row >= 0 && row < height && column >= 0 && column < width &&
           pixels[static_cast<size_t>(row * width + column)] != 0;
  }
};

/// Adds all pixels that have at least one of their eight neighbors in the mask.
PixelMask dilate(const PixelMask& mask);

/// Removes all pixels that have at least one of their eight neighbors outside the mask. Positions
/// beyond the image border do not count as outside.
PixelMask erode(const PixelMask& mask);

/// A part of an image: a mask and where it is.
struct Region {
  int64_t top = 0;
  int64_t left = 0;
  PixelMask mask;
};

/// The connected components (of four neighbors) with at least `min_pixels` pixels, in the order of
/// their first pixels, each with a border of one empty pixel.
std::vector<Region> connected_regions(const PixelMask& mask, int64_t min_pixels);

/// Splits a region at its narrowest places: erodes it until it falls into several parts of at least
/// `min_pixels` pixels, and assigns each pixel to the nearest part.
///
/// @return  the parts; empty if the region does not fall into several
std::vector<Region> split_region(const Region& region, int64_t min_pixels);

}  // namespace dalle
