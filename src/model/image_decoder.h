#pragma once

#include <optional>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "model/discrete_vae_config.h"
#include "nn/conv2d.h"
#include "nn/residual_block.h"
#include "tensor/precision.h"

namespace dalle {

/// Logit-Laplace distribution of each channel of each pixel.
struct PixelDistribution {
  at::Tensor mean;       ///< [B, 3, H, W] of the pixel's logit
  at::Tensor log_scale;  ///< [B, 3, H, W], ln b
};

/// The dVAE's decoder: the encoder in reverse, with nearest-neighbor upsampling between the groups.
///
/// Its first convolution, 1x1 over the K codes, is the codebook: the embedding of code k is
/// w[:, k] + b. (The bottleneck `fsq` has no codebook: there, it projects the rounded numbers.) It
/// is float32 under every precision because its input is the relaxation. The Bottleneck applies it,
/// and the decoder begins with its output. Parameters have the released code's names.
///
/// Source: Ramesh et al. 2021, appendix A.1, and the released code
class ImageDecoderImpl : public torch::nn::Module {
 public:
  ImageDecoderImpl(const DiscreteVaeConfig& config, Precision precision);

  /// @param embeddings  [B, codebook_width, h, w] output of the first convolution
  PixelDistribution forward(const at::Tensor& embeddings);

  /// The first convolution.
  Conv2d input() const { return input_; }

  /// @param codebook_init_std  standard deviation of the first convolution's weights; if empty, the
  ///                           released code's 1 / sqrt(K)
  void initialize(at::Generator generator, std::optional<double> codebook_init_std);

 private:
  std::optional<double> log_scale_floor_;
  Conv2d input_ = nullptr;
  ResidualGroups groups_;
  Conv2d output_ = nullptr;
};
TORCH_MODULE(ImageDecoder);

}  // namespace dalle
