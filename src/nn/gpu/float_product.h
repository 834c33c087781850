#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

/// Whether the device of `x` multiplies matrices of its type into a float32 result: LibTorch does
/// so for bfloat16 on CUDA.
///
/// A float32 head after bfloat16 layers needs it there: according to its data sheet, an H200
/// multiplies float32 at a fifteenth of the rate of bfloat16. TF32 would keep three more bits of
/// the weights, but LibTorch has one switch for the whole process, other threads included.
bool has_float_product(const at::Tensor& x);

/// x weightᵀ from operands in bfloat16, without rounding the result to bfloat16. Differentiable
/// once: gradients are computed from that of the result in bfloat16.
///
/// Where has_float_product() is false, the rounded operands are multiplied in float32.
///
/// @param x       [N, in] bfloat16; so is its gradient
/// @param weight  [out, in] float32, rounded to bfloat16; its gradient is not rounded
/// @return        [N, out] float32
at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight);

}  // namespace dalle
