#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// The weights of a Gaussian filter, which sum to 1.
/// @param size  odd
/// @return      [size]
at::Tensor gaussian_window(int64_t size, double standard_deviation,
                           const at::TensorOptions& options);

/// Filters images with a window along both axes, only where it lies inside the image.
///
/// @param images  [N, 1, H, W] of the window's type
/// @param window  [size]
/// @return        [N, 1, H - size + 1, W - size + 1]
at::Tensor filter_images(const at::Tensor& images, const at::Tensor& window);

/// Blurs images with a Gaussian of this standard deviation in pixels, cut off at four of them. The
/// pixels of the border are repeated outside.
///
/// @param images  [B, C, H, W] floating
/// @return        the same shape
at::Tensor gaussian_blur(const at::Tensor& images, double standard_deviation);

}  // namespace dalle
