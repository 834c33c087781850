#pragma once

#include <cstdint>
#include <memory>

#include <c10/core/Device.h>

#include "nn/gpu/block_sparse_attention.h"

namespace dalle {

/// The kernels that cmake/compile_kernels.py has compiled for a GPU, for bfloat16; null if there
/// are none for the GPU or for heads of this width.
/// @throws c10::Error if the driver cannot load them
std::unique_ptr<AttentionKernels> load_cuda_attention_kernels(c10::Device device,
                                                              int64_t head_width);

}  // namespace dalle
