#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Elements per block. The size of a flat buffer is a multiple of it.
inline constexpr int64_t kNormBlock = 1024;

/// Blocks that are copied to float64 at a time: 8 MiB.
inline constexpr int64_t kNormBlocksAtOnce = 1024;

/// The sum of the squares of each block of `flat` [blocks * kNormBlock]: [blocks] float64. The bits
/// do not depend on the other blocks, so ranks that have only some of them agree.
at::Tensor block_square_sums(const at::Tensor& flat);

/// The Euclidean norm of a flat gradient from the sums of its blocks, accumulated in float64.
double norm_of_blocks(const at::Tensor& square_sums);

}  // namespace dalle
