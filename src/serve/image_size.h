#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/image/rgb_image.h"

namespace dalle {

struct ImageSize {
  int64_t width = 0;
  int64_t height = 0;
};

/// Reads "WIDTHxHEIGHT". Nothing for other texts, and if a side is 0 or has more than five digits.
std::optional<ImageSize> parse_image_size(std::string_view text);

/// How many times larger than the model's square image the answer is: as close as possible to the
/// shorter side that was asked for.
/// @param side    of the model's image, in pixels
/// @param images  in the answer
int64_t enlargement_for(const ImageSize& wanted, int64_t side, int64_t images);

/// Each pixel becomes a square of `factor` x `factor`.
RgbImage enlarge(const RgbImage& image, int64_t factor);

}  // namespace dalle
