#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/image/rgb_image.h"

namespace dalle {

/// A square image, one float plane for each of red, green and blue, with values in [0, 255].
struct ColorPlanes {
  int64_t side = 0;
  std::array<std::vector<float>, 3> planes;  ///< side * side values each, rows from the top
};

/// Scales a square image with a bicubic kernel (Catmull-Rom), widened to the pixel distance of the
/// smaller image when it reduces, and clamps the result to [0, 255].
ColorPlanes resize_bicubic(const RgbImage& image, int64_t side);

/// A set of pixels of an image or of a part of it.
struct PixelMask {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;  ///< height * width values of 1 or 0, rows from the top

  bool at(int64_t row, int64_t column) const {
    return row >= 0 && row < height && column >= 0 && column < width &&
           pixels[static_cast<size_t>(row * width + column)] != 0;
  }
  int64_t count() const;
};

/// Adds the pixels that have one of the mask among their eight neighbors.
PixelMask dilate(const PixelMask& mask);

/// Removes the pixels that have one outside of the mask among their eight neighbors. What is beyond
/// the border does not count.
PixelMask erode(const PixelMask& mask);

/// A part of an image: a mask and where it is.
struct Region {
  int64_t top = 0;
  int64_t left = 0;
  PixelMask mask;
};

/// The sets of connected pixels (with four neighbors) that have at least `min_pixels`, in the order
/// of their first pixels, each with a border of one empty pixel.
std::vector<Region> connected_regions(const PixelMask& mask, int64_t min_pixels);

/// Divides a region at its narrowest places: erodes it until what is left has several parts of at
/// least `min_pixels`, and gives each pixel to the nearest one.
///
/// @return  the parts; none if the region has no narrow place
std::vector<Region> split_region(const Region& region, int64_t min_pixels);

}  // namespace dalle
