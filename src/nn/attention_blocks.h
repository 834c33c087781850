#pragma once

#include <cstdint>

#include <c10/core/Device.h>
#include <c10/core/TensorOptions.h>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"
#include "nn/gpu/block_sparse_attention.h"

namespace dalle {

/// attention_mask() for kernels that read blocks with these rows, in the order of AttendedRuns.
/// @throws dalle::Error if conv_kernel is even or not positive
BlockSparsePattern block_sparse_pattern(AttentionKind kind, const SequenceLayout& layout,
                                        int64_t conv_kernel, const KernelRows& rows,
                                        c10::Device device);

/// Whether results and gradients of the kernels agree with masked attention in float32, on a few
/// random numbers of the given type.
bool agrees_with_mask(const AttentionKernels& kernels, int64_t head_width,
                      const at::TensorOptions& options);

}  // namespace dalle
