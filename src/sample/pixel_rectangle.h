#pragma once

#include <cstdint>

namespace dalle {

/// A rectangle of pixels; x and y are those of its upper left corner.
struct PixelRectangle {
  int64_t x = 0;
  int64_t y = 0;
  int64_t width = 0;
  int64_t height = 0;

  bool operator==(const PixelRectangle&) const = default;
};

}  // namespace dalle
