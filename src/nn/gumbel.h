#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Standard Gumbel noise for a batch of code grids.
///
/// The noise belongs to the sample: entry i is a pure function of seeds[i] and the sizes, so it
/// does not depend on how a batch is split into micro-batches, or on the device.
///
/// @param seeds  one per sample
/// @param sizes  {K, h, w}
/// @return       [B, K, h, w] float32, channels-last in memory, like the logits
at::Tensor gumbel_noise(std::span<const uint64_t> seeds, at::IntArrayRef sizes,
                        at::Device device = at::kCPU);

/// The relaxation of a sample from softmax(logits): softmax((logits + noise) / temperature).
///
/// It is soft in the forward pass too (no straight-through estimator). As the temperature goes to 0
/// it approaches the one-hot vector of argmax(logits + noise), which is an exact sample.
///
/// @param logits       [B, K, h, w]
/// @param noise        [B, K, h, w], from gumbel_noise(), without gradient
/// @param temperature  above 0
/// @return             [B, K, h, w] in the logits' type; sums to 1 over K
/// @throws dalle::Error if the shapes differ or the temperature is not above 0
/// Source: Ramesh et al. 2021, section 2.1; Jang et al. 2016; Maddison et al. 2016
at::Tensor gumbel_softmax(const at::Tensor& logits, const at::Tensor& noise, double temperature);

/// Kullback-Leibler divergence of softmax(logits) from the uniform distribution over K codes: 0 for
/// the uniform distribution, ln K for a deterministic one. It uses the plain logits, without noise
/// or temperature.
///
/// @param logits  [B, K, h, w], finite
/// @return        [] nats per position, mean over batch and positions
/// Source: Ramesh et al. 2021, section 2.1; the use of plain logits was confirmed by its authors
at::Tensor kl_to_uniform(const at::Tensor& logits);

}  // namespace dalle
