#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"

namespace dalle {

/// The codes of a preview. An unknown code is replaced by the one above it or, in the first row, by
/// the one before it, so known codes continue downward, and a preview with only the first code is
/// one color.
/// @param codes  [image_length], kFreeCode where unknown; the first one must be known
/// @return       [grid_height, grid_width] int64 on the CPU
at::Tensor preview_codes(std::vector<int64_t> codes, const SequenceLayout& layout);

}  // namespace dalle
