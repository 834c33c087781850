#pragma once

#include <ATen/core/Tensor.h>

#include "sample/sampling_config.h"

namespace dalle {

// TokenSampler for a batch of logits on any device. No operation waits for the device, and no shape
// depends on values, so that a CUDA graph can record them. Rows depend on each other only within
// the rounding of sums on a GPU.

/// TokenSampler::guided().
/// @param conditional    [B, V] float32
/// @param unconditional  likewise
/// @return               likewise
at::Tensor guided_logits(const at::Tensor& conditional, const at::Tensor& unconditional,
                         double guidance);

/// TokenSampler::sample(). The tokens are the same unless the rounding of float64 weights or of
/// their sums decides between two of them.
/// @param logits   [B, V] float32. Of a row that is not finite, any token is returned.
/// @param uniform  [B] float64 in [0, 1)
/// @return         [B] int64 in [0, V)
at::Tensor sample_tokens(const at::Tensor& logits, const SamplingConfig& sampling,
                         const at::Tensor& uniform);

}  // namespace dalle
