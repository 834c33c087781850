#pragma once

#include <ATen/core/Tensor.h>

#include "nn/gpu/block_sparse_attention.h"
#include "nn/gpu/residual_norm.h"
#include "tensor/precision.h"

namespace dalle {

// The kernels of cmake/compile_kernels.py, which are for GPUs and for bfloat16; null elsewhere. On
// first use on a GPU they are compared with LibTorch's operations, and not used if they disagree.
// DALLE_GPU_KERNELS=0 in the environment disables them.

/// @param qkv  [..., head width], what will be attended to
const AttentionKernels* find_attention_kernels(const at::Tensor& qkv);

/// @param x          [..., width], the residual stream
/// @param precision  of the products that read the normalized states
const NormKernels* find_norm_kernels(const at::Tensor& x, Precision precision);

}  // namespace dalle
