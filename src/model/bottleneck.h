#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/discrete_vae_config.h"
#include "nn/conv2d.h"

namespace dalle {

/// What a training step tells the bottleneck; only `gumbel` reads it.
struct Relaxation {
  at::Tensor noise = {};   ///< [B, K, h, w] Gumbel noise; undefined: the most likely codes instead
  double temperature = 1;  ///< above 0
  double kl_weight = 0;    ///< beta
};

/// The decoder's input in training, and what it was made from.
struct BottleneckOutput {
  at::Tensor embeddings;    ///< [B, W, h, w], with a gradient to the encoder
  at::Tensor codes = {};    ///< [B, h, w] int64; undefined for a relaxation
  at::Tensor vectors = {};  ///< `vq`: [B, h, w, D] that were assigned these codes; no gradient
};

/// A term of the loss besides the reconstruction.
struct LossTerm {
  std::string name;  ///< as in the log
  at::Tensor value;  ///< []
  double weight = 0;
};

/// The discrete middle of a dVAE, from the encoder's output [B, L, h, w] to the input of the
/// decoder's residual blocks, the embeddings [B, W, h, w]. L is
/// DiscreteVaeConfig::latent_channels() and W is codebook_width. Codes are made from the latents:
/// for `gumbel` the logits [B, K, h, w], else the encoder's output.
///
/// It has no parameters of its own: the codebook of `gumbel` and `vq` is the decoder's first
/// convolution, with which `fsq` projects its numbers. So every dVAE is an encoder and a decoder,
/// and only this class knows its kind.
class Bottleneck {
 public:
  /// @param input  the decoder's first convolution, which it shares with the decoder
  Bottleneck(const DiscreteVaeConfig& config, Conv2d input)
      : config_(config), input_(std::move(input)) {}
  virtual ~Bottleneck() = default;

  /// The latents.
  /// @param encoded  [B, L, h, w] the encoder's output
  virtual at::Tensor latents(const at::Tensor& encoded) { return encoded; }

  /// The image tokens.
  /// @return  [B, h, w] int64 in [0, K)
  virtual at::Tensor codes(const at::Tensor& latents) = 0;

  /// The decoder's input for image tokens.
  /// @param codes  [B, h, w] int64 in [0, K)
  virtual at::Tensor embed(const at::Tensor& codes);

  /// The decoder's input in training.
  virtual BottleneckOutput pass(const at::Tensor& latents, const Relaxation& relaxation) = 0;

  /// What training adds to the reconstruction loss, which is a mean over the dimensions.
  /// @param codes       from pass() or codes()
  /// @param dimensions  channel values of an image
  virtual std::vector<LossTerm> terms(const at::Tensor& latents, const at::Tensor& codes,
                                      const Relaxation& relaxation, double dimensions) = 0;

  /// Changes initial weights, if need be.
  virtual void initialize() {}

 protected:
  at::Tensor look_up(const at::Tensor& codes) const;

  DiscreteVaeConfig config_;
  Conv2d input_;
};

/// The bottleneck that config.bottleneck names.
std::unique_ptr<Bottleneck> make_bottleneck(const DiscreteVaeConfig& config, Conv2d input);

}  // namespace dalle
