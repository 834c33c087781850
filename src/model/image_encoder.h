#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "model/discrete_vae_config.h"
#include "nn/conv2d.h"
#include "nn/residual_block.h"
#include "tensor/precision.h"

namespace dalle {

/// The dVAE's encoder: a 7x7 convolution, groups of residual blocks of doubling width with max
/// pooling after all but the last group, and a 1x1 convolution to one logit per code, or to the
/// input of another Bottleneck.
///
/// The last convolution has a float32 output under every precision because the relaxation uses it;
/// under bfloat16 on CUDA, its weights are rounded, see Conv2dImpl. Parameters have the released
/// code's names.
///
/// Source: Ramesh et al. 2021, appendix A.1, and the released code
class ImageEncoderImpl : public torch::nn::Module {
 public:
  ImageEncoderImpl(const DiscreteVaeConfig& config, Precision precision);

  /// @param pixels  [B, 3, H, W] from map_pixels()
  /// @return        [B, L, h, w] in the parameters' type, channels-last in memory; L is
  ///                DiscreteVaeConfig::latent_channels(); see Bottleneck::latents()
  at::Tensor forward(const at::Tensor& pixels);

  /// The input of the last convolution.
  /// @return  [B, C, h, w], nonnegative, C being the width of the last group
  at::Tensor activations(const at::Tensor& pixels);

  void initialize(at::Generator generator);

 private:
  Conv2d input_ = nullptr;
  ResidualGroups groups_;
  Conv2d output_ = nullptr;
};
TORCH_MODULE(ImageEncoder);

}  // namespace dalle
