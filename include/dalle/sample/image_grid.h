#pragma once

#include <cstdint>
#include <span>

#include "dalle/data/picture.h"

namespace dalle {

/// Pixels of an ImageGrid, known before it takes memory.
struct ImageGridSize {
  int64_t width = 0;
  int64_t height = 0;
};
ImageGridSize image_grid_size(int64_t count, int64_t columns, int64_t image_width,
                              int64_t image_height);

/// A grid of `count` images of one size in rows of `columns`, from the top left, with two pixels of
/// white between and around them; the images are placed one by one.
class ImageGrid {
 public:
  ImageGrid(int64_t count, int64_t columns, int64_t image_width, int64_t image_height);

  /// @throws dalle::Error if the image is of another size
  void place(int64_t number, const Picture& image);

  /// White where no image was placed yet.
  const Picture& picture() const { return grid_; }

 private:
  int64_t count_;
  int64_t columns_;
  int64_t image_width_;
  int64_t image_height_;
  Picture grid_;
};

/// Lays pictures of one size out in an ImageGrid.
/// @throws dalle::Error if there is no picture, or the sizes differ
Picture image_grid(std::span<const Picture> pictures, int64_t columns);

}  // namespace dalle
