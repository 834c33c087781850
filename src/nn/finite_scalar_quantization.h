#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Finite scalar quantization: channel i is bounded by a tanh and rounded to one of L_i levels, and
/// a code is the number with these digits. The codebook is a fixed grid, so it is not learned.
///
/// Rounded numbers are divided by floor(L_i / 2), so they are in [-1, 1]. An even number of levels
/// has one more below 0 than above: the tanh is shifted by half a level so that 0 stays 0.
///
/// Source: Mentzer et al. 2023, section 3.1 and appendix A.1. There the bound is a thousandth
/// inside the outermost levels, which is undefined for two levels; here it is a thousandth outside.

/// Rounds, with the gradient of the bounded but unrounded numbers (straight-through estimator).
///
/// @param latents  [B, d, h, w] floating point
/// @param levels   d numbers, at least 2 each
/// @return         [B, d, h, w] in [-1, 1], in the latents' type
at::Tensor fsq_round(const at::Tensor& latents, const std::vector<int64_t>& levels);

/// The code of rounded numbers; the first channel is the lowest digit.
///
/// @param values  [B, d, h, w] from fsq_round() or fsq_values()
/// @return        [B, h, w] int64 in [0, product of the levels)
at::Tensor fsq_codes(const at::Tensor& values, const std::vector<int64_t>& levels);

/// The rounded numbers of codes, bit for bit those that fsq_round() returns in that type.
///
/// @param codes  [B, h, w] int64 in [0, product of the levels)
/// @return       [B, d, h, w] in [-1, 1]
at::Tensor fsq_values(const at::Tensor& codes, const std::vector<int64_t>& levels,
                      at::ScalarType type = at::kFloat);

}  // namespace dalle
