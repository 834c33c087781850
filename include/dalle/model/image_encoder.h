#pragma once

#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "dalle/model/discrete_vae_config.h"
#include "dalle/nn/conv2d.h"
#include "dalle/nn/precision.h"
#include "dalle/nn/residual_block.h"

namespace dalle {

/// The dVAE's encoder: a 7x7 convolution, groups of residual blocks of doubling width with a max
/// pool after all but the last, and a 1x1 convolution to one logit a code.
///
/// The last convolution is float32 under every precision, because its output meets the relaxation.
/// Source: Ramesh et al. 2021, appendix A.1, and the released code, whose names the parameters have
class ImageEncoderImpl : public torch::nn::Module {
 public:
  ImageEncoderImpl(const DiscreteVaeConfig& config, Precision precision);

  /// @param pixels  [B, 3, H, W] from map_pixels()
  /// @return        [B, K, h, w] logits in the parameters' type, channels-last in memory
  at::Tensor forward(const at::Tensor& pixels);

  void initialize(at::Generator generator);

 private:
  Conv2d input_ = nullptr;
  std::vector<std::vector<ResidualBlock>> groups_;
  Conv2d output_ = nullptr;
};
TORCH_MODULE(ImageEncoder);

}  // namespace dalle
