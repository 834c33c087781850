#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "dalle/model/discrete_vae_config.h"
#include "dalle/model/image_decoder.h"
#include "dalle/model/image_encoder.h"
#include "dalle/nn/precision.h"

namespace dalle {

/// The negative of the paper's evidence lower bound and its two parts; scalars, means over a
/// micro-batch.
struct DvaeLoss {
  at::Tensor total;  ///< [] nats per dimension: reconstruction + KL weight * KL, see loss()
  at::Tensor reconstruction;  ///< [] nats per dimension (a channel of a pixel)
  at::Tensor kl;              ///< [] nats per position of the code grid, in [0, ln K]
};

/// The discrete VAE: an image of H x W pixels as a grid of h x w codes out of K, where h = H / f
/// and f = 2^(groups - 1).
///
/// The posterior over the codes is softmax(logits); the prior is uniform. Training feeds the
/// decoder a Gumbel-softmax relaxation of a draw. There is no codebook loss and no revival of
/// codes: the codebook is the decoder's first convolution and learns by the gradient alone.
///
/// Weights are zero until initialize() or until a checkpoint is loaded. Images are converted to the
/// parameters' type, so that a module moved to float64 computes in it.
/// Source: Ramesh et al. 2021, sections 2.1 and A
class DiscreteVaeImpl : public torch::nn::Module {
 public:
  /// @throws dalle::Error if config.hidden is not a multiple of 4 or a size is not positive
  explicit DiscreteVaeImpl(const DiscreteVaeConfig& config,
                           Precision precision = Precision::kFloat32);

  /// Draws the weights as the released code does: N(0, 1 / fan-in), biases 0; the codebook from
  /// N(0, codebook_init_std^2) where the config has one.
  void initialize(at::Generator generator);

  /// @param images  [B, 3, H, W] floating in [0, 1]; H and W multiples of f
  /// @return        [B, K, h, w] float32, channels-last in memory
  /// @throws dalle::Error if the images have another type or shape
  at::Tensor logits(const at::Tensor& images);

  /// The likeliest code of each position, without noise and without gradient: the image tokens.
  ///
  /// @param images  as for logits()
  /// @return        [B, h, w] int64 in [0, K)
  at::Tensor encode(const at::Tensor& images);

  /// A code of each position drawn from the posterior, without gradient: argmax(logits + Gumbel
  /// noise), which is an exact draw.
  ///
  /// @param images  as for logits()
  /// @param seeds   one for each image; its codes depend on nothing else
  /// @return        [B, h, w] int64 in [0, K)
  /// @throws dalle::Error if there is not one seed for each image
  at::Tensor sample_codes(const at::Tensor& images, std::span<const uint64_t> seeds);

  /// The picture of each grid of codes, without gradient: the logistic function of the mean,
  /// unmapped; the scale has no part in it.
  ///
  /// @param codes  [B, h, w] int64 in [0, K)
  /// @return       [B, 3, H, W] float32 in [0, 1]
  /// @throws dalle::Error if the codes have another type or shape or lie outside [0, K)
  at::Tensor decode(const at::Tensor& codes);

  /// decode() of a weighting of the codes at each position, such as a relaxation.
  ///
  /// @param weights  [B, K, h, w], summing to 1 over K
  /// @return         [B, 3, H, W] float32 in [0, 1]
  /// @throws dalle::Error if the weights have another type or shape
  at::Tensor decode_soft(const at::Tensor& weights);

  /// Noise for loss() on images of height x width pixels; a pure function of the seeds.
  ///
  /// @return  [B, K, h, w] float32 on the device of the parameters
  at::Tensor noise(std::span<const uint64_t> seeds, int64_t height, int64_t width) const;

  /// The training loss, the paper's per-dimension loss:
  /// total = reconstruction + kl_weight * kl * (h w) / (3 H W).
  ///
  /// @param images       as for logits()
  /// @param noise        [B, K, h, w] from noise()
  /// @param temperature  of the relaxation, above 0
  /// @param kl_weight    beta
  /// @throws dalle::Error if a shape or the temperature is wrong
  /// Source: Ramesh et al. 2021, section 2.1 and appendix A.2
  DvaeLoss loss(const at::Tensor& images, const at::Tensor& noise, double temperature,
                double kl_weight);

  /// loss() with the likeliest codes in place of the relaxation: the decoder learns what decode()
  /// will ask of it, and the encoder gets the gradient that the posterior itself would get (the
  /// straight-through estimator).
  DvaeLoss straight_through_loss(const at::Tensor& images, double kl_weight);

  /// loss() without relaxation: the decoder reads the likeliest codes. Without gradient.
  DvaeLoss hard_loss(const at::Tensor& images, double kl_weight);

  const DiscreteVaeConfig& config() const { return config_; }

 private:
  DvaeLoss loss_of(const PixelDistribution& predicted, const at::Tensor& pixels,
                   const at::Tensor& logits, double kl_weight) const;
  at::Tensor mapped_pixels(const at::Tensor& images) const;

  DiscreteVaeConfig config_;
  ImageEncoder encoder_ = nullptr;
  ImageDecoder decoder_ = nullptr;
};
TORCH_MODULE(DiscreteVae);

}  // namespace dalle
