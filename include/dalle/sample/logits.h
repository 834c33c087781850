#pragma once

#include <span>

#include <ATen/core/Tensor.h>

#include "dalle/sample/sampling_config.h"

namespace dalle {

/// The distribution that tokens are drawn from: softmax(logits / temperature), kept to the top_k
/// likeliest tokens and then to the fewest whose probability reaches top_p. Temperature 0 puts all
/// on the likeliest token, the first of equals.
///
/// @param logits  [B, V] float32
/// @return        [B, V] float64 on the CPU, rows sum to 1
/// @throws dalle::Error if a logit is not finite
at::Tensor token_probabilities(const at::Tensor& logits, const SamplingConfig& sampling);

/// Draws a token for each row by inverting its cumulative distribution at a given number.
///
/// @param probabilities  [B, V] float64 on the CPU, from token_probabilities()
/// @param uniforms       one a row, in [0, 1)
/// @return               [B] int64 on the CPU; never a token of probability 0
at::Tensor draw_tokens(const at::Tensor& probabilities, std::span<const double> uniforms);

}  // namespace dalle
