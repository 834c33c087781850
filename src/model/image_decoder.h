#pragma once

#include <optional>
#include <vector>

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
/// w[:, k] + b. It is float32 under every precision because its input is the relaxation. Parameters
/// have the released code's names.
///
/// Source: Ramesh et al. 2021, appendix A.1, and the released code
class ImageDecoderImpl : public torch::nn::Module {
 public:
  ImageDecoderImpl(const DiscreteVaeConfig& config, Precision precision);

  /// @param weights  [B, K, h, w] weights of the codes at each position, summing to 1 over K
  PixelDistribution forward(const at::Tensor& weights);

  /// forward() of the codes' one-hot vectors, computed by looking up their embeddings.
  ///
  /// @param codes  [B, h, w] int64 in [0, K)
  PixelDistribution decode_codes(const at::Tensor& codes);

  /// The embeddings of the codes without their common bias: [codebook_width, K, 1, 1].
  const at::Tensor& codebook() const { return input_->weight(); }

  /// @param codebook_init_std  standard deviation of the first convolution's weights; if empty, the
  ///                           released code's 1 / sqrt(K)
  void initialize(at::Generator generator, std::optional<double> codebook_init_std);

 private:
  PixelDistribution decode_embeddings(at::Tensor x);

  std::optional<double> log_scale_floor_;
  Conv2d input_ = nullptr;
  std::vector<std::vector<ResidualBlock>> groups_;
  Conv2d output_ = nullptr;
};
TORCH_MODULE(ImageDecoder);

}  // namespace dalle
