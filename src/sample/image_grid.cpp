#include "dalle/sample/image_grid.h"

#include <algorithm>

#include "dalle/core/error.h"

namespace dalle {

Picture image_grid(std::span<const Picture> pictures, int64_t columns) {
  constexpr int64_t kMargin = 2;
  DALLE_CHECK(columns > 0);
  if (pictures.empty()) throw Error("image grid: no picture to lay out");
  const int64_t width = pictures.front().width, height = pictures.front().height;
  const auto count = static_cast<int64_t>(pictures.size());
  const int64_t used_columns = std::min(columns, count), rows = (count + columns - 1) / columns;
  Picture grid{.width = used_columns * (width + kMargin) + kMargin,
               .height = rows * (height + kMargin) + kMargin,
               .pixels = {}};
  grid.pixels.assign(static_cast<size_t>(grid.width * grid.height * 3), 255);
  for (int64_t i = 0; i < count; ++i) {
    const Picture& picture = pictures[static_cast<size_t>(i)];
    if (picture.width != width || picture.height != height)
      throw Error("image grid: picture {} is {} x {}, expected {} x {}", i, picture.width,
                  picture.height, width, height);
    const int64_t left = kMargin + (i % columns) * (width + kMargin),
                  top = kMargin + (i / columns) * (height + kMargin);
    for (int64_t row = 0; row < height; ++row)
      std::copy_n(picture.pixels.begin() + row * width * 3, width * 3,
                  grid.pixels.begin() + ((top + row) * grid.width + left) * 3);
  }
  return grid;
}

}  // namespace dalle
