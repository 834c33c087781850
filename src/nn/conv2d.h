#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "tensor/precision.h"

namespace dalle {

/// The dVAE's convolution: stride 1, padded with zeros so that the image keeps its size.
///
/// The parameters have the released code's names: `w` [out, in, kernel, kernel] and `b` [out]. They
/// are zero until initialize() or until a checkpoint is loaded. Under Precision::kBfloat16, input,
/// weight and bias are cast explicitly and gradients reach the float32 parameters through the
/// casts. Under kFloat32 the convolution runs in the type of the parameters, so a module moved to
/// float64 can serve as a reference. The exception is a 1x1 convolution of a bfloat16 input on
/// CUDA, after layers with kBfloat16: its result is float32, but its weights are rounded, see
/// float_linear().
///
/// Source: Ramesh et al. 2021, released code
class Conv2dImpl : public torch::nn::Module {
 public:
  /// @param kernel  side of the square window, odd
  Conv2dImpl(int64_t in_channels, int64_t out_channels, int64_t kernel, Precision precision);

  /// Initializes w from N(0, 1 / (in * kernel^2)) and b to 0.
  void initialize(at::Generator generator);

  /// The same with the given standard deviation of w.
  void initialize(at::Generator generator, double stddev);

  /// @param x             [B, in, H, W], any floating type
  /// @param output_scale  constant factor on the output; applied to the weights, which are fewer
  /// @return              [B, out, H, W] bfloat16 under kBfloat16, else the parameters' type
  at::Tensor forward(const at::Tensor& x, double output_scale = 1.0);

  const at::Tensor& weight() const { return w_; }
  const at::Tensor& bias() const { return b_; }

 private:
  Precision precision_;
  at::Tensor w_;
  at::Tensor b_;
};
TORCH_MODULE(Conv2d);

}  // namespace dalle
