#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "dalle/nn/precision.h"

namespace dalle {

/// Sum of the cross-entropies of a classifier head, a few rows at a time: the logits of all rows
/// never exist at once.
///
/// Gradients, where they are wanted, are computed along with the loss, while a chunk's logits are
/// at hand, and kept: one [N, width] and one [classes, width] tensor. Logits, softmax and sums are
/// float32 under every policy (float64 for float64 parameters); `precision` is that of the two
/// matrix products of the gradients. Rows without a target cost nothing.
/// Source: Ramesh et al. 2021, appendix D: unembeddings and logits are 32 bits wide
///
/// @param states     [N, width] of the weight's type
/// @param weight     [classes, width], of the head; logits are states weightᵀ
/// @param targets    [N] int64 in [0, classes), or -1: such a row counts for nothing
/// @param chunk      rows with a target at a time
/// @return           [] the sum over rows, in nats
at::Tensor chunked_cross_entropy(const at::Tensor& states, const at::Tensor& weight,
                                 const at::Tensor& targets, Precision precision,
                                 int64_t chunk = 1024);

}  // namespace dalle
