#pragma once

#include <ATen/core/Tensor.h>

namespace dalle {

/// The default of at::layer_norm(), added to the variance.
inline constexpr double kNormEpsilon = 1e-5;

struct NormInputs {
  at::Tensor x;       ///< [rows, width] float32: the residual stream
  at::Tensor branch;  ///< [rows, width] bfloat16: what is added to it; may be undefined
  at::Tensor gain;    ///< [width] float32
  at::Tensor bias;    ///< [width] float32
};

struct NormOutputs {
  at::Tensor total;   ///< [rows, width] float32: x + branch; x itself without a branch
  at::Tensor normed;  ///< [rows, width] bfloat16: its layer normalization
  at::Tensor mean;    ///< [rows] float32
  at::Tensor rstd;    ///< [rows] float32: 1 / sqrt(variance + kNormEpsilon)
};

struct NormGradients {
  at::Tensor x;       ///< [rows, width] float32
  at::Tensor branch;  ///< [rows, width] bfloat16, undefined without a branch
  at::Tensor gain;    ///< [width] float32
  at::Tensor bias;    ///< [width] float32
};

/// Layer normalization of a sum in one pass over memory, with the types above. All tensors are
/// contiguous and may have more than one dimension of rows. Threads may share an object.
class NormKernels {
 public:
  NormKernels() = default;
  NormKernels(const NormKernels&) = delete;
  NormKernels& operator=(const NormKernels&) = delete;
  virtual ~NormKernels() = default;

  /// Writes all of `out`; its total is not written without a branch.
  virtual void forward(const NormInputs& in, NormOutputs& out) const = 0;

  /// Writes gradients.x and, if it is defined, gradients.branch; sets the others.
  virtual void backward(const NormOutputs& saved, const at::Tensor& gain, const at::Tensor& d_total,
                        const at::Tensor& d_normed, NormGradients& gradients) const = 0;
};

struct ResidualNorm {
  at::Tensor total;   ///< [..., width] in the type of x: x + branch
  at::Tensor normed;  ///< [..., width]: layer normalization of total over the last dimension
};

/// @param in       of the types above if kernels are given, except that the branch is rounded to
///                 bfloat16; else of any floating type
/// @param kernels  null: LibTorch's operations, and `normed` has the type of x. They must outlive
///                 the graph, and their gradient cannot itself be differentiated.
ResidualNorm residual_norm(const NormInputs& in, const NormKernels* kernels);

/// Whether results and gradients of the kernels agree with those of LibTorch's operations, on a few
/// random numbers.
bool agrees_with_layer_norm(const NormKernels& kernels, int64_t width, at::Device device);

}  // namespace dalle
