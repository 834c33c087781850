#include "model/discrete_vae.h"

#include <array>
#include <optional>
#include <utility>

#include <fmt/ranges.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/gumbel.h"
#include "nn/logit_laplace.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

const DiscreteVaeConfig& checked(const DiscreteVaeConfig& config) {
  if (config.groups < 1 || config.blocks_per_group < 1 || config.vocab_size < 2 ||
      config.codebook_width < 1)
    throw Error(
        "dvae.model: found groups {}, blocks_per_group {}, vocab_size {}, codebook_width {}, "
        "expected at least 1, 1, 2, 1",
        config.groups, config.blocks_per_group, config.vocab_size, config.codebook_width);
  if (config.hidden < 4 || config.hidden % 4 != 0)
    throw Error("dvae.model.hidden: found {}, expected a positive multiple of 4", config.hidden);
  if (config.bottleneck == BottleneckKind::kFsq && product_of(config.levels()) != config.vocab_size)
    throw Error(
        "dvae.model.fsq_levels: found [{}], expected numbers whose product is vocab_size, {}",
        fmt::join(config.levels(), ", "), config.vocab_size);
  return config;
}

at::Tensor image_of(const PixelDistribution& predicted) {
  return unmap_pixels(predicted.mean.sigmoid()).contiguous();
}

/// @param kernels  of the residual path
void append_block(std::vector<ConvolutionShape>& list, int64_t in, int64_t out, int64_t side,
                  const std::array<int64_t, 4>& kernels) {
  const int64_t hidden = out / 4;
  if (in != out) list.push_back({in, out, 1, side});
  list.push_back({in, hidden, kernels[0], side});
  list.push_back({hidden, hidden, kernels[1], side});
  list.push_back({hidden, hidden, kernels[2], side});
  list.push_back({hidden, out, kernels[3], side});
}

}  // namespace

DiscreteVaeImpl::DiscreteVaeImpl(const DiscreteVaeConfig& config, Precision precision)
    : config_(checked(config)),
      encoder_(register_module("encoder", ImageEncoder(config, precision))),
      decoder_(register_module("decoder", ImageDecoder(config, precision))),
      bottleneck_(make_bottleneck(config, decoder_->input())) {}

void DiscreteVaeImpl::initialize(at::Generator generator) {
  encoder_->initialize(generator);
  decoder_->initialize(generator, config_.bottleneck == BottleneckKind::kFsq
                                      ? std::nullopt
                                      : config_.codebook_init_std);
  bottleneck_->initialize();
}

at::Tensor DiscreteVaeImpl::logits(const at::Tensor& images) {
  return latents(mapped_pixels(images));
}

at::Tensor DiscreteVaeImpl::latents(const at::Tensor& pixels) {
  return bottleneck_->latents(encoder_(pixels));
}

at::Tensor DiscreteVaeImpl::encode(const at::Tensor& images) {
  const torch::NoGradGuard no_grad;
  return bottleneck_->codes(logits(images));
}

at::Tensor DiscreteVaeImpl::features(const at::Tensor& images) {
  const torch::NoGradGuard no_grad;
  return encoder_->activations(mapped_pixels(images)).mean({2, 3}).to(at::kFloat);
}

at::Tensor DiscreteVaeImpl::sample_codes(const at::Tensor& images,
                                         std::span<const uint64_t> seeds) {
  const torch::NoGradGuard no_grad;
  if (!has_posterior())
    throw Error("sample_codes: the bottleneck {} has no posterior to sample from, expected gumbel",
                to_string(config_.bottleneck));
  const auto plain = logits(images);
  if (static_cast<int64_t>(seeds.size()) != plain.size(0))
    throw Error("sample_codes: found {} seeds for {} images, expected one per image", seeds.size(),
                plain.size(0));
  return bottleneck_->codes(plain + noise(seeds, images.size(2), images.size(3)));
}

at::Tensor DiscreteVaeImpl::decode(const at::Tensor& codes) {
  const torch::NoGradGuard no_grad;
  if (codes.dim() != 3 || codes.scalar_type() != at::kLong)
    throw Error("codes: found {}, expected Long [B, h, w]", describe_tensor(codes));
  check_code_range("codes", codes, config_.vocab_size);
  return image_of(decoder_(bottleneck_->embed(codes)));
}

at::Tensor DiscreteVaeImpl::decode_soft(const at::Tensor& weights) {
  const torch::NoGradGuard no_grad;
  if (config_.bottleneck == BottleneckKind::kFsq)
    throw Error("decode_soft: the bottleneck fsq has no embeddings to mix, expected gumbel or vq");
  if (weights.dim() != 4 || weights.size(1) != config_.vocab_size || !weights.is_floating_point())
    throw Error("code weights: found {}, expected Float [B, {}, h, w]", describe_tensor(weights),
                config_.vocab_size);
  return image_of(decoder_(decoder_->input()->forward(weights)));
}

at::Tensor DiscreteVaeImpl::noise(std::span<const uint64_t> seeds, int64_t height,
                                  int64_t width) const {
  if (!has_posterior()) return {};
  return gumbel_noise(seeds,
                      {config_.vocab_size, config_.grid_size(height), config_.grid_size(width)},
                      codebook().device());
}

DvaeLoss DiscreteVaeImpl::loss(const at::Tensor& images, const at::Tensor& noise,
                               double temperature, double kl_weight) {
  return training_loss(images,
                       {.noise = noise, .temperature = temperature, .kl_weight = kl_weight});
}

DvaeLoss DiscreteVaeImpl::straight_through_loss(const at::Tensor& images, double kl_weight) {
  return training_loss(images, {.kl_weight = kl_weight});
}

DvaeLoss DiscreteVaeImpl::training_loss(const at::Tensor& images, const Relaxation& relaxation) {
  const auto pixels = mapped_pixels(images);
  const auto latents = this->latents(pixels);  // [B, L, h, w]
  BottleneckOutput passed = bottleneck_->pass(latents, relaxation);
  DvaeLoss loss = loss_of(decoder_(passed.embeddings), pixels, latents, passed.codes, relaxation);
  loss.passed = std::move(passed);
  return loss;
}

DvaeEvaluation DiscreteVaeImpl::evaluate(const at::Tensor& images, const at::Tensor& noise,
                                         double temperature, double kl_weight) {
  const torch::NoGradGuard no_grad;
  const auto pixels = mapped_pixels(images);
  const auto latents = this->latents(pixels);      // [B, L, h, w]
  const auto codes = bottleneck_->codes(latents);  // [B, h, w]
  const PixelDistribution predicted = decoder_(bottleneck_->embed(codes));
  DvaeEvaluation evaluation{
      .codes = codes,
      .loss = loss_of(predicted, pixels, latents, codes, {.kl_weight = kl_weight}),
      .hard_images = image_of(predicted)};
  if (has_posterior())
    evaluation.soft_images = decode_soft(gumbel_softmax(latents, noise, temperature));
  return evaluation;
}

DvaeLoss DiscreteVaeImpl::loss_of(const PixelDistribution& predicted, const at::Tensor& pixels,
                                  const at::Tensor& latents, const at::Tensor& codes,
                                  const Relaxation& relaxation) const {
  const auto dimensions = static_cast<double>(pixels.size(1) * pixels.size(2) * pixels.size(3));
  DvaeLoss loss;
  loss.reconstruction = logit_laplace_nll(predicted.mean, predicted.log_scale, pixels);
  loss.terms = bottleneck_->terms(latents, codes, relaxation, dimensions);
  loss.total = loss.reconstruction;
  for (const LossTerm& term : loss.terms) {
    loss.total = loss.total + term.value * term.weight;
    if (term.name == "kl") loss.kl = term.value;
  }
  return loss;
}

at::Tensor DiscreteVaeImpl::mapped_pixels(const at::Tensor& images) const {
  const int64_t factor = int64_t{1} << (config_.groups - 1);
  if (images.dim() != 4 || !images.is_floating_point() || images.size(1) != 3 ||
      images.size(2) % factor != 0 || images.size(3) % factor != 0 || images.numel() == 0)
    throw Error("images: found {}, expected Float [B, 3, H, W] with H and W multiples of {}",
                describe_tensor(images), factor);
  return map_pixels(images.to(codebook().scalar_type()));
}

DvaeConvolutions dvae_convolutions(const DiscreteVaeConfig& config, int64_t image_size) {
  DvaeConvolutions convolutions;
  auto& [encoder, decoder] = convolutions;
  const int64_t grid = config.grid_size(image_size);
  const auto side_of_group = [&](int64_t group) { return image_size >> (group - 1); };
  int64_t channels = config.hidden;
  encoder.push_back({3, channels, 7, image_size});
  for (int64_t group = 1; group <= config.groups; ++group)
    for (int64_t block = 0; block < config.blocks_per_group; ++block) {
      append_block(encoder, channels, config.width_of_group(group), side_of_group(group),
                   {3, 3, 3, 1});
      channels = config.width_of_group(group);
    }
  encoder.push_back({channels, config.latent_channels(), 1, grid});

  channels = config.codebook_width;
  decoder.push_back({config.decoder_inputs(), channels, 1, grid});
  for (int64_t group = config.groups; group >= 1; --group)
    for (int64_t block = 0; block < config.blocks_per_group; ++block) {
      append_block(decoder, channels, config.width_of_group(group), side_of_group(group),
                   {1, 3, 3, 3});
      channels = config.width_of_group(group);
    }
  decoder.push_back({channels, 6, 1, image_size});
  return convolutions;
}

}  // namespace dalle
