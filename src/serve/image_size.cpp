#include "serve/image_size.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "core/strict_number.h"
#include "data/image/image.h"

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
  return tensor_to_image(
      image_to_tensor(image).repeat_interleave(factor, 1).repeat_interleave(factor, 2));
}

}  // namespace dalle
