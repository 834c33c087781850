#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sample/caption_images.h"

namespace dalle {

/// The codes of an image that are given: the request's, except those that its variation frees. A
/// position is freed if a uniform number of (seed, image, position) is below the variation, so more
/// variation frees the same positions and more.
/// @return  [image_length], kFreeCode where a code is sampled
std::vector<int64_t> forced_codes(const CaptionImages& request, int64_t image_length, uint64_t seed,
                                  int64_t image);

/// The positions that are evaluated: up to the last free one, and at least one.
int64_t evaluated_positions(std::span<const int64_t> forced);

}  // namespace dalle
