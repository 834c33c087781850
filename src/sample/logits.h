#pragma once

#include <span>

#include <ATen/core/Tensor.h>

#include "sample/sampling_config.h"

namespace dalle {

/// The distribution to sample tokens from: softmax(logits / temperature), restricted to the top_k
/// most likely tokens and then to the fewest whose total probability reaches top_p. Temperature 0
/// selects the most likely token, the first one if several are equal.
///
/// @param logits  [B, V] float32
/// @return        [B, V] float64 on the CPU, rows sum to 1
/// @throws dalle::Error if a logit is not finite
at::Tensor token_probabilities(const at::Tensor& logits, const SamplingConfig& sampling);

/// Samples a token for each row by inverting its cumulative distribution at a given number.
///
/// @param probabilities  [B, V] float64 on the CPU, from token_probabilities()
/// @param uniforms       one per row, in [0, 1)
/// @return               [B] int64 on the CPU; never a token of probability 0
at::Tensor sample_tokens(const at::Tensor& probabilities, std::span<const double> uniforms);

}  // namespace dalle
