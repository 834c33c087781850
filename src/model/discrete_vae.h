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
  /// `gumbel`: [B, 3, H, W] float32 in [0, 1]: decoded from the relaxation
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
  /// noise), which is an exact sample. Only for `gumbel`: the others have no posterior.
  ///
  /// @param images  as for logits()
  /// @param seeds   one per image, which alone determines the sampling of its codes
  /// @return        [B, h, w] int64 in [0, K)
  at::Tensor sample_codes(const at::Tensor& images, std::span<const uint64_t> seeds);

  /// The image of each grid of codes, without gradient: the sigmoid of the mean, unmapped. The
  /// scale is not used.
  ///
  /// @param codes  [B, h, w] int64 in [0, K)
  /// @return       [B, 3, H, W] float32 in [0, 1]
  /// @throws dalle::Error if the codes have the wrong type or shape or are outside [0, K)
  at::Tensor decode(const at::Tensor& codes);

  /// Noise for loss() on images of height x width pixels; a pure function of the seeds.
  ///
  /// @return  [B, K, h, w] float32 on the device of the parameters; undefined for bottlenecks other
  ///          than `gumbel`, which take none
  at::Tensor noise(std::span<const uint64_t> seeds, int64_t height, int64_t width) const;

  /// The training loss, the paper's per-dimension loss:
  /// total = reconstruction + kl_weight * kl * (h w) / (3 H W). Bottlenecks other than `gumbel` do
  /// not read the relaxation and have their own terms.
  ///
  /// Without noise, the decoder trains on the inputs that decode() gives it, which are the most
  /// likely codes, and the encoder gets the gradient of the posterior (the straight-through
  /// estimator).
  ///
  /// @param images      as for logits()
  /// @param relaxation  its noise is from noise()
  /// @throws dalle::Error if a shape or the temperature is wrong
  /// Source: Ramesh et al. 2021, section 2.1 and appendix A.2
  DvaeLoss loss(const at::Tensor& images, const Relaxation& relaxation);

  /// Encodes the images once and decodes them twice: from the likeliest codes and from the
  /// relaxation. Without gradient.
  ///
  /// @param images, relaxation  as for loss()
  DvaeEvaluation evaluate(const at::Tensor& images, const Relaxation& relaxation);

  const DiscreteVaeConfig& config() const { return config_; }

  /// The embeddings of the codes without their common bias, [codebook_width, K, 1, 1]; for `fsq`
  /// the projection of its numbers.
  at::Tensor codebook() const { return decoder_->input()->weight(); }

 private:
  at::Tensor latents(const at::Tensor& pixels);
  DvaeLoss loss_of(const PixelDistribution& predicted, const at::Tensor& pixels,
                   const at::Tensor& latents, const at::Tensor& codes,
                   const Relaxation& relaxation) const;
  at::Tensor mapped_pixels(const at::Tensor& images) const;
  bool is(BottleneckKind kind) const { return config_.bottleneck == kind; }

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
