#pragma once

#include <cstdint>
#include <span>

#include "data/image/rgb_image.h"

namespace dalle {

/// The size of an ImageGrid in pixels, known before any memory is allocated.
struct ImageGridSize {
  int64_t width = 0;
  int64_t height = 0;
};
ImageGridSize image_grid_size(int64_t count, int64_t columns, int64_t image_width,
                              int64_t image_height);

/// A grid of `count` images of the same size in rows of `columns`, from the top left, with two
/// light gray pixels between and around them. Images are placed one by one.
class ImageGrid {
 public:
  ImageGrid(int64_t count, int64_t columns, int64_t image_width, int64_t image_height);

  /// @throws dalle::Error if the image has a different size
  void place(int64_t number, const RgbImage& image);

  /// Light gray where no image has been placed.
  const RgbImage& image() const { return grid_; }

 private:
  int64_t count_;
  int64_t columns_;
  int64_t image_width_;
  int64_t image_height_;
  RgbImage grid_;
};

/// Arranges images of the same size in an ImageGrid.
/// @throws dalle::Error if there are no images or their sizes differ
RgbImage image_grid(std::span<const RgbImage> images, int64_t columns);

}  // namespace dalle
