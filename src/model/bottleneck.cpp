#include "model/bottleneck.h"

#include <cmath>

#include <torch/types.h>

#include "core/error.h"
#include "nn/finite_scalar_quantization.h"
#include "nn/gumbel.h"
#include "nn/vector_quantization.h"

namespace dalle {
namespace {

/// The paper's: the latents are logits of a distribution over the codes. Training feeds the decoder
/// a relaxation of a sample, and pulls the distribution towards the uniform prior.
/// Source: Ramesh et al. 2021, section 2.1
class GumbelBottleneck : public Bottleneck {
 public:
  using Bottleneck::Bottleneck;

  at::Tensor latents(const at::Tensor& encoded) override {
    if (config_.logits == LogitKind::kLinear) return encoded;
    return distance_logits(encoded.permute({0, 2, 3, 1}), input_->weight().flatten(1))
        .permute({0, 3, 1, 2});  // [B, K, h, w], channels-last in memory
  }

  // The argmax over the codes, which are dimension 1 but last in memory; the view avoids a copy.
  at::Tensor codes(const at::Tensor& latents) override {
    return latents.permute({0, 2, 3, 1}).argmax(-1);  // [B, h, w]
  }

  BottleneckOutput pass(const at::Tensor& latents, const Relaxation& relaxation) override {
    const auto weights =
        relaxation.noise.defined()
            ? gumbel_softmax(latents, relaxation.noise, relaxation.temperature)  // [B, K, h, w]
            : likeliest(latents);
    return {.embeddings = input_(weights)};
  }

  // The paper sums the likelihood over all dimensions and beta * KL over all positions, and divides
  // both by the number of dimensions. So the mean KL per position has the factor (h w) / (3 H W),
  // which is 1/192 for 256 pixels and four groups.
  std::vector<LossTerm> terms(const at::Tensor& latents, const at::Tensor&,
                              const Relaxation& relaxation, double dimensions) override {
    const auto positions = static_cast<double>(latents.size(2) * latents.size(3));
    return {{"kl", kl_to_uniform(latents), relaxation.kl_weight * positions / dimensions}};
  }

 private:
  /// One-hot vectors of the most likely codes, with the gradient of the posterior.
  static at::Tensor likeliest(const at::Tensor& latents) {
    const auto posterior = latents.permute({0, 2, 3, 1}).softmax(-1);  // [B, h, w, K]
    const auto hard = torch::zeros_like(posterior).scatter_(
        -1, posterior.detach().argmax(-1, /*keepdim=*/true), 1);  // [B, h, w, K]
    return (hard + posterior - posterior.detach()).permute({0, 3, 1, 2});
  }
};

/// VQ-VAE: the decoder gets the code nearest to the latent vector, and the latent gets the gradient
/// of that code. The losses are means over all numbers of the latents, as in the authors' code.
/// Source: van den Oord et al. 2017, section 3; unit_norm: Yu et al. 2021, section 3.2
class VectorBottleneck : public Bottleneck {
 public:
  using Bottleneck::Bottleneck;

  at::Tensor codes(const at::Tensor& latents) override {
    const auto vectors = scaled(latents).detach();  // [B, h, w, D]
    return nearest_codes(vectors.reshape({-1, vectors.size(3)}), input_->weight().flatten(1))
        .view({vectors.size(0), vectors.size(1), vectors.size(2)});
  }

  BottleneckOutput pass(const at::Tensor& latents, const Relaxation&) override {
    const auto vectors = scaled(latents);  // [B, h, w, D]
    const auto found = codes(latents);     // [B, h, w]
    const auto chosen = straight_through(look_up(found), vectors) + input_->bias();
    return {
        .embeddings = chosen.permute({0, 3, 1, 2}), .codes = found, .vectors = vectors.detach()};
  }

  std::vector<LossTerm> terms(const at::Tensor& latents, const at::Tensor& codes, const Relaxation&,
                              double) override {
    const auto vectors = scaled(latents);  // [B, h, w, D]
    const auto chosen = look_up(codes);    // [B, h, w, D]
    std::vector<LossTerm> terms = {
        {"commitment", at::mse_loss(vectors, chosen.detach()), config_.vq.commitment}};
    if (config_.vq.update == CodebookUpdate::kLoss)
      terms.push_back({"codebook", at::mse_loss(chosen, vectors.detach()), 1});
    return terms;
  }

  void initialize() override {
    const torch::NoGradGuard no_grad;
    if (config_.vq.unit_norm) input_->weight().div_(input_->weight().norm(2, {0}, true));
  }

 private:
  /// [B, h, w, D]
  at::Tensor scaled(const at::Tensor& latents) const {
    const auto vectors = latents.permute({0, 2, 3, 1});
    if (!config_.vq.unit_norm) return vectors;
    constexpr double kSmallest = 1e-12;
    return vectors / vectors.norm(2, {-1}, true).clamp_min(kSmallest);
  }
};

/// FSQ: the latents are bounded and rounded. There is no codebook and no further loss.
/// Source: Mentzer et al. 2023
class ScalarBottleneck : public Bottleneck {
 public:
  using Bottleneck::Bottleneck;

  at::Tensor codes(const at::Tensor& latents) override {
    return fsq_codes(fsq_round(latents, levels_), levels_);
  }

  at::Tensor embed(const at::Tensor& codes) override {
    return input_(fsq_values(codes, levels_, input_->weight().scalar_type()));
  }

  BottleneckOutput pass(const at::Tensor& latents, const Relaxation&) override {
    return {.embeddings = input_(fsq_round(latents, levels_))};
  }

  std::vector<LossTerm> terms(const at::Tensor&, const at::Tensor&, const Relaxation&,
                              double) override {
    return {};
  }

 private:
  std::vector<int64_t> levels_ = config_.levels();
};

}  // namespace

/// The codes' embeddings without their common bias, [B, h, w, W].
at::Tensor Bottleneck::look_up(const at::Tensor& codes) const {
  const auto embeddings = input_->weight().flatten(1).t();  // [K, W]
  return embeddings.index_select(0, codes.flatten())
      .view({codes.size(0), codes.size(1), codes.size(2), embeddings.size(1)});
}

at::Tensor Bottleneck::embed(const at::Tensor& codes) {
  return (look_up(codes) + input_->bias()).permute({0, 3, 1, 2});  // [B, W, h, w]
}

std::unique_ptr<Bottleneck> make_bottleneck(const DiscreteVaeConfig& config, Conv2d input) {
  switch (config.bottleneck) {
    case BottleneckKind::kGumbel:
      return std::make_unique<GumbelBottleneck>(config, std::move(input));
    case BottleneckKind::kVq:
      return std::make_unique<VectorBottleneck>(config, std::move(input));
    case BottleneckKind::kFsq:
      return std::make_unique<ScalarBottleneck>(config, std::move(input));
  }
  throw Error("dvae.model.bottleneck: found {}", static_cast<int>(config.bottleneck));
}

}  // namespace dalle
