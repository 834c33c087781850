#pragma once

#include <cstdint>
#include <memory>

#include <c10/core/Device.h>

#include "nn/gpu/residual_norm.h"

namespace dalle {

/// The kernels that cmake/compile_kernels.py has compiled for a GPU; null if there are none for the
/// GPU or for rows of this width.
/// @throws c10::Error if the driver cannot load them
std::unique_ptr<NormKernels> load_cuda_norm_kernels(c10::Device device, int64_t width);

}  // namespace dalle
