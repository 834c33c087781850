#pragma once

#include <optional>
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

/// Logit-Laplace distribution of each channel of each pixel.
struct PixelDistribution {
  at::Tensor mean;       ///< [B, 3, H, W], of the pixel's logit
  at::Tensor log_scale;  ///< [B, 3, H, W], ln b
};

/// The dVAE's decoder: the encoder backwards, with nearest-neighbour upsampling between the groups.
///
/// Its first convolution, 1x1 over the K codes, is the codebook: code k's embedding is w[:, k] + b,
/// and there is no other. It is float32 under every precision, because its input is the relaxation.
/// Source: Ramesh et al. 2021, appendix A.1, and the released code, whose names the parameters have
class ImageDecoderImpl : public torch::nn::Module {
 public:
  ImageDecoderImpl(const DiscreteVaeConfig& config, Precision precision);

  /// @param weights  [B, K, h, w] weights of the codes at each position, summing to 1 over K
  PixelDistribution forward(const at::Tensor& weights);

  /// forward() of the codes' one-hot vectors, by gathering their embeddings.
  ///
  /// @param codes  [B, h, w] int64 in [0, K)
  PixelDistribution decode_codes(const at::Tensor& codes);

  /// The codes' embeddings without their common bias: [codebook_width, K, 1, 1].
  const at::Tensor& codebook() const { return input_->weight(); }

  /// @param codebook_init_std  standard deviation of the first convolution's weights; empty: the
  ///                           released code's 1 / sqrt(K), as for every other convolution
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
