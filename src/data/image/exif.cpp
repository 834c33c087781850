#include "data/image/exif.h"

#include <algorithm>
#include <cstdint>

#include "core/bytes.h"
#include "core/error.h"

namespace dalle {

int exif_orientation(std::string_view tiff) {
  constexpr int kUpright = 1;
  constexpr uint32_t kOrientationTag = 0x0112, kShortType = 3;
  if (!tiff.starts_with("II") && !tiff.starts_with("MM")) return kUpright;
  const ByteOrder order = tiff.front() == 'I' ? ByteOrder::kLittle : ByteOrder::kBig;
  const auto directory = read_integer(tiff, 4, 4, order);
  if (read_integer(tiff, 2, 2, order) != 42U || !directory) return kUpright;
  const uint32_t entries = read_integer(tiff, *directory, 2, order).value_or(0);
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = uint64_t{*directory} + 2 + uint64_t{12} * i;
    if (read_integer(tiff, entry, 2, order) != kOrientationTag) continue;
    const uint32_t value = read_integer(tiff, entry + 8, 2, order).value_or(0);
    const bool is_valid =
        read_integer(tiff, entry + 2, 2, order) == kShortType && value >= 1 && value <= 8;
    return is_valid ? static_cast<int>(value) : kUpright;
  }
  return kUpright;
}

RgbImage upright(RgbImage image, int orientation) {
  DALLE_CHECK(orientation >= 1 && orientation <= 8);
  if (orientation == 1) return image;
  // Every orientation is an optional transposition (5 to 8), then mirrored columns, mirrored rows.
  const bool transposed = orientation >= 5;
  const bool mirrors_columns =
      orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool mirrors_rows =
      orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  RgbImage result{.width = transposed ? image.height : image.width,
                  .height = transposed ? image.width : image.height,
                  .pixels = std::vector<uint8_t>(image.pixels.size())};
  uint8_t* target = result.pixels.data();
  for (int64_t y = 0; y < result.height; ++y) {
    const int64_t row = mirrors_rows ? result.height - 1 - y : y;
    for (int64_t x = 0; x < result.width; ++x, target += 3) {
      const int64_t column = mirrors_columns ? result.width - 1 - x : x;
      const int64_t source = transposed ? column * image.width + row : row * image.width + column;
      std::copy_n(&image.pixels[3 * source], 3, target);
    }
  }
  return result;
}

}  // namespace dalle
