#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "tensor/precision.h"

namespace dalle {

/// y = x wᵀ + b. The parameters `weight` [out, in] and, if requested, `bias` [out] are zero until
/// initialize() or until a checkpoint is loaded.
///
/// Under Precision::kBfloat16, input and parameters are cast explicitly and gradients reach the
/// float32 parameters through the casts. Under kFloat32 it computes in the parameters' type.
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias, Precision precision);

  /// Initializes the weight from N(0, stddev²) and the bias to 0.
  void initialize(at::Generator generator, double stddev);

  /// @param x  [..., in]
  /// @return   [..., out] bfloat16 under kBfloat16, else the parameters' type
  at::Tensor forward(const at::Tensor& x);

  const at::Tensor& weight() const { return weight_; }

 private:
  Precision precision_;
  at::Tensor weight_;
  at::Tensor bias_;
};
TORCH_MODULE(Linear);

}  // namespace dalle
