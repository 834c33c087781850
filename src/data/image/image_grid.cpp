#include "data/image/image_grid.h"

#include <algorithm>

#include "core/error.h"

namespace dalle {
namespace {

constexpr int64_t kGridMargin = 2;
constexpr uint8_t kGridGray = 208;  ///< sets white images apart

}  // namespace

ImageGridSize image_grid_size(int64_t count, int64_t columns, int64_t image_width,
                              int64_t image_height) {
  DALLE_CHECK(count > 0 && columns > 0);
  const int64_t rows = (count + columns - 1) / columns;
  return {.width = std::min(columns, count) * (image_width + kGridMargin) + kGridMargin,
          .height = rows * (image_height + kGridMargin) + kGridMargin};
}

ImageGrid::ImageGrid(int64_t count, int64_t columns, int64_t image_width, int64_t image_height)
    : count_(count), columns_(columns), image_width_(image_width), image_height_(image_height) {
  const ImageGridSize size = image_grid_size(count, columns, image_width, image_height);
  grid_.width = size.width;
  grid_.height = size.height;
  grid_.pixels.assign(static_cast<size_t>(grid_.width * grid_.height * 3), kGridGray);
}

void ImageGrid::place(int64_t number, const RgbImage& image) {
  DALLE_CHECK(number >= 0 && number < count_);
  if (image.width != image_width_ || image.height != image_height_)
    throw Error("image grid: image {} is {} x {}, expected {} x {}", number, image.width,
                image.height, image_width_, image_height_);
  const int64_t left = kGridMargin + (number % columns_) * (image_width_ + kGridMargin),
                top = kGridMargin + (number / columns_) * (image_height_ + kGridMargin);
  for (int64_t row = 0; row < image_height_; ++row)
    std::copy_n(image.pixels.begin() + row * image_width_ * 3, image_width_ * 3,
                grid_.pixels.begin() + ((top + row) * grid_.width + left) * 3);
}

RgbImage image_grid(std::span<const RgbImage> images, int64_t columns) {
  if (images.empty()) throw Error("image grid: no images to lay out");
  ImageGrid grid(static_cast<int64_t>(images.size()), columns, images.front().width,
                 images.front().height);
  for (size_t i = 0; i < images.size(); ++i) grid.place(static_cast<int64_t>(i), images[i]);
  return grid.image();
}

}  // namespace dalle
