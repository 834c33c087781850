#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dalle {

/// A rectangle of pixels; x and y are those of its upper left corner.
struct PixelRectangle {
  int64_t x = 0;
  int64_t y = 0;
  int64_t width = 0;
  int64_t height = 0;

  bool operator==(const PixelRectangle&) const = default;
};

/// Parses "x,y,width,height": four integers, with or without blanks around them.
std::optional<PixelRectangle> parse_rectangle(std::string_view text);

}  // namespace dalle
