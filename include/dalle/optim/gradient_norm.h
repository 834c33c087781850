#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Elements whose squares are added up on their own. Flat buffers are multiples of it long.
inline constexpr int64_t kNormBlock = 1024;

/// Blocks of which there is a float64 copy at a time: 8 MiB of it.
inline constexpr int64_t kNormBlocksAtOnce = 1024;

/// [blocks] float64: the sum of the squares of each block of `flat` [blocks * kNormBlock]. A rank
/// that has some blocks alone finds the same bits for them as one that has all.
at::Tensor block_square_sums(const at::Tensor& flat);

/// Euclidean norm of a flat gradient, from the sums of its blocks, accumulated in float64.
double norm_of_blocks(const at::Tensor& square_sums);

}  // namespace dalle
