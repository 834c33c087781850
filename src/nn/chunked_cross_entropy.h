#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "tensor/precision.h"

namespace dalle {

/// Rows whose logits exist at once; more on a GPU, where each chunk launches a dozen kernels.
inline constexpr int64_t kLossChunk = 1024;
inline constexpr int64_t kGpuLossChunk = 4096;

/// Which rows have a target.
enum class TargetRows {
  kAll,
  kSome,  ///< a search finds them; the host waits for it if the targets are on a GPU
};

/// Sum of the cross-entropies of a classifier head, computed a chunk of rows at a time so that the
/// logits of all rows are never in memory at once.
///
/// If gradients are required, they are computed together with the loss, while a chunk's logits are
/// in memory, and saved as one [N, width] and one [classes, width] tensor. Logits, softmax and sums
/// are float32 under every precision (float64 for float64 parameters); `precision` applies only to
/// the two matrix products of the gradients. Rows without a target cost nothing.
///
/// Under kBfloat16 on CUDA, the logits are float32 as well, but their product has operands rounded
/// to bfloat16, and the weight's gradient is summed over the chunks without rounding.
///
/// Source: Ramesh et al. 2021, appendix D: unembeddings and logits are 32 bits wide; the rounding
/// on CUDA deviates from it
///
/// @param states   [N, width] in the type of the weight
/// @param weight   [classes, width] of the head; logits are states weightᵀ
/// @param targets  [N] int64 in [0, classes), or -1 for rows to ignore; on the states' device or on
///                 the host
/// @param chunk    rows with a target per chunk; 0: kGpuLossChunk on a GPU, else kLossChunk
/// @return         [] the sum over rows, in nats
at::Tensor chunked_cross_entropy(const at::Tensor& states, const at::Tensor& weight,
                                 const at::Tensor& targets, TargetRows target_rows,
                                 Precision precision, int64_t chunk = 0);

}  // namespace dalle
