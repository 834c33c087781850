#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

/// How far mapped pixels stay from 0 and 1, where the logit is infinite.
inline constexpr double kPixelMargin = 0.1;

/// Maps pixels into (0, 1): (1 - 2 eps) x + eps with eps = kPixelMargin. The encoder's input and
/// the likelihood's target are the same mapped image.
///
/// @param images  [B, 3, H, W] in [0, 1]
/// @return        [B, 3, H, W] in [0.1, 0.9]
/// Source: Ramesh et al. 2021, appendix A.3
at::Tensor map_pixels(const at::Tensor& images);

/// The inverse of map_pixels(), clamped to [0, 1].
at::Tensor unmap_pixels(const at::Tensor& pixels);

/// Negative log-likelihood of pixels under the logit-Laplace distribution:
/// ln 2 + ln b + ln(x (1 - x)) + |logit(x) - mean| / b.
///
/// Unlike a Gaussian, it has support only in (0, 1), the range to which map_pixels() maps pixels.
///
/// @param mean       [B, 3, H, W], any real value; the mean of logit(x)
/// @param log_scale  [B, 3, H, W], the natural logarithm of the scale b
/// @param pixels     [B, 3, H, W] in (0, 1), from map_pixels()
/// @return           [] nats per channel value, mean over batch, channels and pixels
/// @throws dalle::Error if the shapes differ
/// Source: Ramesh et al. 2021, appendix A.3
at::Tensor logit_laplace_nll(const at::Tensor& mean, const at::Tensor& log_scale,
                             const at::Tensor& pixels);

}  // namespace dalle
