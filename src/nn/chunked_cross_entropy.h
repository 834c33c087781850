#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "tensor/precision.h"

namespace dalle {

/// Rows whose logits exist at once.
inline constexpr int64_t kLossChunk = 1024;

/// Sum of the cross-entropies of a classifier head, computed a chunk of rows at a time so that the
/// logits of all rows are never in memory at once.
///
/// If gradients are required, they are computed together with the loss, while a chunk's logits are
/// in memory, and saved as one [N, width] and one [classes, width] tensor. Logits, softmax and sums
/// are float32 under every precision (float64 for float64 parameters); `precision` applies only to
/// the two matrix products of the gradients. Rows without a target cost nothing.
///
/// Source: Ramesh et al. 2021, appendix D: unembeddings and logits are 32 bits wide
///
/// @param states   [N, width] in the type of the weight
/// @param weight   [classes, width] of the head; logits are states weightᵀ
/// @param targets  [N] int64 in [0, classes), or -1 for rows to ignore
/// @param chunk    rows with a target per chunk
/// @return         [] the sum over rows, in nats
at::Tensor chunked_cross_entropy(const at::Tensor& states, const at::Tensor& weight,
                                 const at::Tensor& targets, Precision precision,
                                 int64_t chunk = kLossChunk);

}  // namespace dalle
