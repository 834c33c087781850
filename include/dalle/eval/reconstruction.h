#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// How much of the codebook a set of pictures uses.
struct CodebookHealth {
  double used_share = 0.0;  ///< codes that occur at least once, as a share of all; in [0, 1]
  double perplexity = 0.0;  ///< exp of the entropy of the codes' frequencies; in [1, K]
};

/// @param codes       [..., h, w] int64 in [0, vocab_size), not empty
/// @param vocab_size  number of codes K
/// @throws dalle::Error if there are no codes, they are not int64 or lie outside [0, vocab_size)
CodebookHealth codebook_health(const at::Tensor& codes, int64_t vocab_size);

/// Peak signal-to-noise ratio of each picture: -10 log10 of the mean squared error, for pixels in
/// [0, 1].
///
/// @param pictures         [B, C, H, W] floating in [0, 1]
/// @param reconstructions  [B, C, H, W] floating in [0, 1]
/// @return                 [B] float64, decibels; infinite where the two are equal
/// @throws dalle::Error if the shapes differ or are not those of pictures
at::Tensor psnr(const at::Tensor& pictures, const at::Tensor& reconstructions);

/// Structural similarity of each picture, mean over channels and over the windows that lie inside
/// the picture: Gaussian windows of 11 x 11 pixels and standard deviation 1.5, K1 = 0.01, K2 =
/// 0.03.
///
/// @param pictures         [B, C, H, W] floating in [0, 1], H and W at least 11
/// @param reconstructions  [B, C, H, W] floating in [0, 1]
/// @return                 [B] float64, at most 1
/// @throws dalle::Error if the shapes differ, are not those of pictures, or are smaller than 11
/// Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural
/// similarity"
at::Tensor structural_similarity(const at::Tensor& pictures, const at::Tensor& reconstructions);

}  // namespace dalle
