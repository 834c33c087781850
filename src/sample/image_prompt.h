#pragma once

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "model/discrete_vae.h"
#include "sample/pixel_rectangle.h"

namespace dalle {

// An image prompt gives a part of an image, and the model generates the rest. Its parts:
//
//     kept pixels  [S, S] bool, of the image after cropping and scaling to S x S
//     kept codes   [h, w] bool: a code is kept if all pixels of its cell are

/// The upper part of the rows of pixels.
/// @param part  in [0, 1]
at::Tensor keep_upper_rows(double part, int64_t size);

/// @throws dalle::Error if the rectangle is empty or not inside the image
at::Tensor keep_rectangle(const PixelRectangle& rectangle, int64_t size);

/// What a mask keeps: its opaque pixels, if some are transparent (alpha below 1/2), else its light
/// ones (mean of red, green and blue at least 128). It is cropped and scaled like the image; a
/// pixel is kept if all that it is scaled from are kept.
///
/// @param file      an image file as large as the image before or after cropping and scaling
/// @param original  the image before cropping and scaling
/// @throws dalle::Error if the mask has another size, or cannot be decoded
at::Tensor keep_masked(std::string_view file, const RgbImage& original, int64_t size);

/// @param pixels  [S, S] bool
/// @return        [grid, grid] bool
at::Tensor kept_codes(const at::Tensor& pixels, int64_t grid);

/// The kept codes that come after one that is not kept in raster order: the model cannot see them
/// when it generates that one.
int64_t count_unseen(const at::Tensor& kept_codes);

/// The image's most likely codes where they are kept, kFreeCode elsewhere. The encoder sees the
/// whole image, so codes at an edge of what is kept also depend on pixels beyond it.
/// @return  [h * w] int64 on the CPU
at::Tensor prompt_codes(DiscreteVae vae, const RgbImage& image, const at::Tensor& kept_codes);

/// `generated` with the pixels of `original` where they are kept. Both are S x S.
RgbImage paste(const RgbImage& original, const at::Tensor& kept_pixels, const RgbImage& generated);

}  // namespace dalle
