#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "nn/gpu/block_mask.h"

namespace dalle {

/// Scaled dot-product attention over the pairs of a BlockSparsePattern. All tensors are contiguous:
/// qkv and d_qkv [B, length, 3, heads, head width], out and d_out [B, length, heads, head width],
/// and lse [B, heads, length] the base-2 logarithms of the sums of the scores' exponentials, in
/// float32, or in float64 if qkv is float64. Threads may share an object.
class AttentionKernels {
 public:
  AttentionKernels() = default;
  AttentionKernels(const AttentionKernels&) = delete;
  AttentionKernels& operator=(const AttentionKernels&) = delete;
  virtual ~AttentionKernels() = default;

  /// What the patterns must be made with.
  virtual KernelRows rows() const = 0;

  /// Writes out and lse.
  virtual void forward(const BlockSparsePattern& pattern, const at::Tensor& qkv, at::Tensor& out,
                       at::Tensor& lse) const = 0;

  /// Writes d_qkv.
  virtual void backward(const BlockSparsePattern& pattern, const at::Tensor& qkv,
                        const at::Tensor& out, const at::Tensor& lse, const at::Tensor& d_out,
                        at::Tensor& d_qkv) const = 0;
};

/// Attention computed by the given kernels. Its gradient cannot itself be differentiated.
///
/// @param kernels  must outlive the graph
/// @param qkv      [B, length, 3, heads, head width]
/// @return         [B, length, heads, head width] of the same type
at::Tensor block_sparse_attention(const AttentionKernels& kernels,
                                  const std::shared_ptr<const BlockSparsePattern>& pattern,
                                  const at::Tensor& qkv);

}  // namespace dalle
