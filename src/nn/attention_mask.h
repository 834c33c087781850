#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"

namespace dalle {

/// Raster distances (query - key) at which an image token attends to another image token under
/// `kind`.
///
/// Distance 0 is the token itself. Windows are taken in the flattened grid, so they wrap around row
/// ends, as in figure 11 of the paper.
///
/// @param conv_kernel  side of the convolutional window in grid cells; odd. Used only by kConv.
/// @return             sorted, distinct, each in [0, image_length).
/// @throws dalle::Error if conv_kernel is even or not positive.
/// Source: Ramesh et al. 2021, appendix B.1 and figure 11; the closed form for kConv reproduces the
/// figure (3x3 on a 4x4 grid) and is extrapolated to other sizes.
std::vector<int64_t> attended_distances(AttentionKind kind, const SequenceLayout& layout,
                                        int64_t conv_kernel = 11);

/// Builds the boolean mask of `kind`, the reference that every faster attention path is tested
/// against.
///
/// @return  [length, length] bool, true where the query (row) attends to the key (column).
at::Tensor attention_mask(AttentionKind kind, const SequenceLayout& layout,
                          int64_t conv_kernel = 11);

/// A boolean mask in additive form: 0 where it is true, else -inf.
/// @return  of the same shape and device, in the given floating type
at::Tensor to_additive(const at::Tensor& mask, at::ScalarType type);

}  // namespace dalle
