#include "serve/image_size.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/strict_number.h"

namespace dalle {
namespace {

/// The longest side of an answer, unless the model's own is longer.
constexpr int64_t kLongestServedSide = 2048;

/// The most pixels of all images of an answer, unless they have more without being enlarged.
constexpr int64_t kMostServedPixels = int64_t{1} << 26;

std::optional<int64_t> parse_side(std::string_view text) {
  constexpr size_t kMostDigits = 5;
  if (text.size() > kMostDigits || text.find_first_not_of("0123456789") != text.npos)
    return std::nullopt;
  const std::optional<int64_t> side = parse_integer(text);
  return side && *side > 0 ? side : std::nullopt;
}

}  // namespace

std::optional<ImageSize> parse_image_size(std::string_view text) {
  const size_t mark = text.find('x');
  if (mark == text.npos) return std::nullopt;
  const auto width = parse_side(text.substr(0, mark)), height = parse_side(text.substr(mark + 1));
  if (!width || !height) return std::nullopt;
  return ImageSize{*width, *height};
}

int64_t enlargement_for(const ImageSize& wanted, int64_t side, int64_t images) {
  const auto longest = std::min(
      kLongestServedSide, static_cast<int64_t>(std::sqrt(static_cast<double>(kMostServedPixels) /
                                                         static_cast<double>(images))));
  const int64_t shorter = std::min(wanted.width, wanted.height);
  const int64_t nearest = (shorter + side / 2) / side;
  return std::clamp<int64_t>(nearest, 1, std::max<int64_t>(1, longest / side));
}

RgbImage enlarge(const RgbImage& image, int64_t factor) {
  DALLE_CHECK(factor >= 1);
  if (factor == 1) return image;
  RgbImage large{.width = image.width * factor, .height = image.height * factor, .pixels = {}};
  large.pixels.reserve(large.width * large.height * 3);
  for (int64_t y = 0; y < large.height; ++y) {
    const uint8_t* const row = image.pixels.data() + y / factor * image.width * 3;
    for (int64_t x = 0; x < large.width; ++x) {
      const uint8_t* const pixel = row + x / factor * 3;
      large.pixels.insert(large.pixels.end(), pixel, pixel + 3);
    }
  }
  return large;
}

}  // namespace dalle
