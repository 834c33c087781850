#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"

namespace dalle {

/// The codes of a preview: where one is not known yet, that above it, or in the first row that
/// before it. So what is known continues downward, and a preview of an image that has no rows yet
/// is one color.
/// @param codes  [image_length], kFreeCode where unknown; the first one must be known
/// @return       [grid_height, grid_width] int64 on the CPU
at::Tensor preview_codes(std::vector<int64_t> codes, const SequenceLayout& layout);

}  // namespace dalle
