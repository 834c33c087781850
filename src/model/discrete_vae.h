#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "model/bottleneck.h"
#include "model/discrete_vae_config.h"
#include "model/image_decoder.h"
#include "model/image_encoder.h"
#include "tensor/precision.h"

namespace dalle {

/// The negative of the paper's evidence lower bound and its two terms, averaged over a micro-batch.
/// Other bottlenecks have different terms in place of the KL divergence.
struct DvaeLoss {
  at::Tensor total;  ///< [] nats per dimension: reconstruction + KL weight * KL, see loss()
  at::Tensor reconstruction;     ///< [] nats per dimension (a channel of a pixel)
  at::Tensor kl;                 ///< `gumbel`: [] nats per position of the code grid, in [0, ln K]
  std::vector<LossTerm> terms;   ///< what total adds to the reconstruction, such as the KL
  BottleneckOutput passed = {};  ///< in training: what the decoder got
};

/// What an evaluation needs from a batch of images; see DiscreteVaeImpl::evaluate().
struct DvaeEvaluation {
  at::Tensor codes;        ///< [B, h, w] int64: encode()
  DvaeLoss loss;           ///< the training loss, but with these codes in place of the relaxation
  at::Tensor hard_images;  ///< [B, 3, H, W] float32 in [0, 1]: decode() of the codes
  /// `gumbel`: [B, 3, H, W] float32 in [0, 1]: decode_soft() of the relaxation
  at::Tensor soft_images = {};
};

/// The discrete VAE, which represents an image of H x W pixels as a grid of h x w codes out of K,
/// where h = H / f, w = W / f and f = 2^(groups - 1).
///
/// The posterior over the codes is softmax(logits); the prior is uniform. Training feeds the
/// decoder a Gumbel-softmax relaxation of a sample. There is neither a codebook loss nor a revival
/// of unused codes: the codebook is the decoder's first convolution and is learned by gradients.
///
/// That is `bottleneck: gumbel`. The other bottlenecks, for comparison, replace the posterior, the
/// relaxation and the KL term, and leave the rest as it is: see Bottleneck.
///
/// Weights are zero until initialize() or until a checkpoint is loaded. Images are converted to the
/// parameters' type, so a module moved to float64 computes in float64.
///
/// Source: Ramesh et al. 2021, section 2.1 and appendix A
class DiscreteVaeImpl : public torch::nn::Module {
 public:
  /// @throws dalle::Error if config.hidden is not a multiple of 4, a size is not positive, or the
  ///         levels of `fsq` do not make vocab_size codes
  explicit DiscreteVaeImpl(const DiscreteVaeConfig& config,
                           Precision precision = Precision::kFloat32);

  /// Initializes the weights as the released code does, from N(0, 1 / fan-in) with zero biases; the
  /// codebook from N(0, codebook_init_std^2) if the config has that key.
  void initialize(at::Generator generator);

  /// The logits of the codes for `gumbel`, otherwise the encoder's output.
  ///
  /// @param images  [B, 3, H, W] floating in [0, 1]; H and W multiples of f
  /// @return        [B, L, h, w] float32, channels-last in memory; L is K for `gumbel`, and
  ///                DiscreteVaeConfig::latent_channels() in general
  /// @throws dalle::Error if the images have the wrong type or shape
  at::Tensor logits(const at::Tensor& images);

  /// The image tokens: the most likely code at each position, without noise or gradient. For other
  /// bottlenecks, the codes that they assign.
  ///
  /// @param images  as for logits()
  /// @return        [B, h, w] int64 in [0, K)
  at::Tensor encode(const at::Tensor& images);

  /// The input of the encoder's last convolution, averaged over the grid, without gradient.
  /// Represents images in evaluations.
  ///
  /// @param images  as for logits()
  /// @return        [B, C] float32, C being the width of the last group
  at::Tensor features(const at::Tensor& images);

  /// Samples a code at each position from the posterior, without gradient: argmax(logits + Gumbel
  /// noise), which is an exact sample.
  ///
  /// @param images  as for logits()
  /// @param seeds   one per image, which alone determines the sampling of its codes
  /// @return        [B, h, w] int64 in [0, K)
  /// @throws dalle::Error if there is not one seed per image, or for bottlenecks other than
  ///         `gumbel`, which have no posterior
  at::Tensor sample_codes(const at::Tensor& images, std::span<const uint64_t> seeds);

  /// The image of each grid of codes, without gradient: the sigmoid of the mean, unmapped. The
  /// scale is not used.
  ///
  /// @param codes  [B, h, w] int64 in [0, K)
  /// @return       [B, 3, H, W] float32 in [0, 1]
  /// @throws dalle::Error if the codes have the wrong type or shape or are outside [0, K)
  at::Tensor decode(const at::Tensor& codes);

  /// decode() of a weighting of the codes at each position, such as a relaxation; not for `fsq`,
  /// which has no embeddings to mix.
  ///
  /// @param weights  [B, K, h, w], summing to 1 over K
  /// @return         [B, 3, H, W] float32 in [0, 1]
  /// @throws dalle::Error if the weights have the wrong type or shape
  at::Tensor decode_soft(const at::Tensor& weights);

  /// Noise for loss() on images of height x width pixels; a pure function of the seeds.
  ///
  /// @return  [B, K, h, w] float32 on the device of the parameters; undefined for bottlenecks other
  ///          than `gumbel`, which take none
  at::Tensor noise(std::span<const uint64_t> seeds, int64_t height, int64_t width) const;

  /// The training loss, the paper's per-dimension loss:
  /// total = reconstruction + kl_weight * kl * (h w) / (3 H W). Bottlenecks other than `gumbel`
  /// read neither noise, temperature nor KL weight, and have their own terms.
  ///
  /// @param images       as for logits()
  /// @param noise        [B, K, h, w] from noise()
  /// @param temperature  of the relaxation, above 0
  /// @param kl_weight    beta
  /// @throws dalle::Error if a shape or the temperature is wrong
  /// Source: Ramesh et al. 2021, section 2.1 and appendix A.2
  DvaeLoss loss(const at::Tensor& images, const at::Tensor& noise, double temperature,
                double kl_weight);

  /// loss() with the most likely codes instead of the relaxation: the decoder trains on the inputs
  /// that decode() gives it, and the encoder gets the gradient of the posterior (the
  /// straight-through estimator). The same as loss() for other bottlenecks, which have no
  /// relaxation.
  DvaeLoss straight_through_loss(const at::Tensor& images, double kl_weight);

  /// Encodes the images once and decodes them twice: from the likeliest codes and from the
  /// relaxation. Without gradient.
  ///
  /// @param images, noise, temperature, kl_weight  as for loss()
  DvaeEvaluation evaluate(const at::Tensor& images, const at::Tensor& noise, double temperature,
                          double kl_weight);

  const DiscreteVaeConfig& config() const { return config_; }

  /// The embeddings of the codes without their common bias, [codebook_width, K, 1, 1]; for `fsq`
  /// the projection of its numbers.
  at::Tensor codebook() const { return decoder_->input()->weight(); }

 private:
  at::Tensor latents(const at::Tensor& pixels);
  DvaeLoss training_loss(const at::Tensor& images, const Relaxation& relaxation);
  DvaeLoss loss_of(const PixelDistribution& predicted, const at::Tensor& pixels,
                   const at::Tensor& latents, const at::Tensor& codes,
                   const Relaxation& relaxation) const;
  at::Tensor mapped_pixels(const at::Tensor& images) const;
  bool has_posterior() const { return config_.bottleneck == BottleneckKind::kGumbel; }

  DiscreteVaeConfig config_;
  ImageEncoder encoder_ = nullptr;
  ImageDecoder decoder_ = nullptr;
  std::unique_ptr<Bottleneck> bottleneck_;
};
TORCH_MODULE(DiscreteVae);

/// A convolution of the dVAE applied to one image, for cost estimates.
struct ConvolutionShape {
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t kernel = 0;
  int64_t side = 0;  ///< of its input and output, in pixels

  int64_t weights() const { return in_channels * out_channels * kernel * kernel; }
  int64_t parameters() const { return weights() + out_channels; }
  double flops() const {
    return 2.0 * static_cast<double>(weights()) * static_cast<double>(side * side);
  }
};

/// All convolutions, in order; together they hold all parameters.
struct DvaeConvolutions {
  std::vector<ConvolutionShape> encoder;
  std::vector<ConvolutionShape> decoder;
};

/// The convolutions of the modules for this config; no module is constructed.
DvaeConvolutions dvae_convolutions(const DiscreteVaeConfig& config, int64_t image_size);

}  // namespace dalle
