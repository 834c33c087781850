#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// How much of the codebook a set of images uses.
struct CodebookHealth {
  double used_share = 0.0;  ///< fraction of the codes that occur at least once
  double perplexity = 0.0;  ///< exp of the entropy of the code frequencies; in [1, K]
};

/// How often each code occurs.
///
/// @param codes       [..., h, w] int64 in [0, vocab_size), not empty
/// @param vocab_size  number of codes K
/// @return            [K] int64
at::Tensor code_counts(const at::Tensor& codes, int64_t vocab_size);

/// @param counts  [K] int64, not all zero: sums of code_counts()
CodebookHealth codebook_health(const at::Tensor& counts);

/// How often each code occurs at each position of the grid.
///
/// @param codes  [B, h, w] int64 in [0, vocab_size), not empty
/// @return       [h w, K] int64
at::Tensor position_code_counts(const at::Tensor& codes, int64_t vocab_size);

/// The entropy of the codes at each position of the grid.
///
/// @param counts  [h w, K] int64, with at least one code at each position
/// @return        [h w] float64, nats in [0, ln K]
at::Tensor position_entropy(const at::Tensor& counts);

/// Shifts images one pixel to the right and repeats their first column.
///
/// @param images  [B, C, H, W]
at::Tensor shift_right(const at::Tensor& images);

/// Decibels to count for an exact reconstruction, whose psnr() is infinite.
inline constexpr double kFlawlessPsnr = 100;

/// Peak signal-to-noise ratio of each image: -10 log10 of the mean squared error.
///
/// @param images           [B, C, H, W] floating in [0, 1]
/// @param reconstructions  [B, C, H, W] floating in [0, 1]
/// @return                 [B] float64, decibels; infinite if the two are equal
at::Tensor psnr(const at::Tensor& images, const at::Tensor& reconstructions);

/// How many of the five scales structural_similarity() uses for images whose shorter side has this
/// many pixels: those on which that side has at least 11. All five from 176 pixels on.
int64_t similarity_scales(int64_t side);

/// Structural similarity of each image, averaged over channels.
struct Similarity {
  at::Tensor single_scale;  ///< [B] float64, at most 1: SSIM
  at::Tensor multi_scale;   ///< [B] float64 in [0, 1]: MS-SSIM
};

/// SSIM is averaged over the windows inside the image. Windows are Gaussian, 11 x 11 pixels with
/// standard deviation 1.5; K1 = 0.01 and K2 = 0.03.
///
/// MS-SSIM is the product of the mean SSIM on the coarsest scale and, on the others, of its mean
/// without the luminance term, to the powers of Wang et al.'s weights. Each scale halves the one
/// before by averaging 2 x 2 pixels; the last row or column of an odd side is left out. A negative
/// mean counts as 0. Images that are too small for five scales get fewer, whose weights are divided
/// by their sum.
///
/// @param images           [B, C, H, W] floating in [0, 1], H and W at least 11
/// @param reconstructions  [B, C, H, W] floating in [0, 1]
/// Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural
/// similarity"; Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image
/// quality assessment"
Similarity structural_similarity(const at::Tensor& images, const at::Tensor& reconstructions);

}  // namespace dalle
