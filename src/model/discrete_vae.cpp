#include "model/discrete_vae.h"

#include <array>
#include <optional>
#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "nn/gumbel.h"
#include "nn/logit_laplace.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

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
    : config_(config),
      encoder_(register_module("encoder", ImageEncoder(config, precision))),
      decoder_(register_module("decoder", ImageDecoder(config, precision))),
      bottleneck_(make_bottleneck(config, decoder_->input())) {
  DALLE_CHECK(config.hidden % 4 == 0);
  DALLE_CHECK(!is(BottleneckKind::kFsq) || product_of(config.levels()) == config.vocab_size);
}

void DiscreteVaeImpl::initialize(at::Generator generator) {
  encoder_->initialize(generator);
  decoder_->initialize(generator,
                       is(BottleneckKind::kFsq) ? std::nullopt : config_.codebook_init_std);
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
  DALLE_CHECK(static_cast<int64_t>(seeds.size()) == images.size(0));
  return bottleneck_->codes(logits(images) + noise(seeds, images.size(2), images.size(3)));
}

at::Tensor DiscreteVaeImpl::decode(const at::Tensor& codes) {
  const torch::NoGradGuard no_grad;
  if (codes.dim() != 3 || codes.scalar_type() != at::kLong)
    throw Error("codes: found {}, expected Long [B, h, w]", describe_tensor(codes));
  check_code_range("codes", codes, config_.vocab_size);
  return image_of(decoder_(bottleneck_->embed(codes)));
}

at::Tensor DiscreteVaeImpl::noise(std::span<const uint64_t> seeds, int64_t height,
                                  int64_t width) const {
  if (!is(BottleneckKind::kGumbel)) return {};
  return gumbel_noise(seeds,
                      {config_.vocab_size, config_.grid_size(height), config_.grid_size(width)},
                      codebook().device());
}

DvaeLoss DiscreteVaeImpl::loss(const at::Tensor& images, const Relaxation& relaxation) {
  const auto pixels = mapped_pixels(images);
  const auto latents = this->latents(pixels);  // [B, L, h, w]
  BottleneckOutput passed = bottleneck_->pass(latents, relaxation);
  DvaeLoss loss = loss_of(decoder_(passed.embeddings), pixels, latents, passed.codes, relaxation);
  loss.passed = std::move(passed);
  return loss;
}

DvaeEvaluation DiscreteVaeImpl::evaluate(const at::Tensor& images, const Relaxation& relaxation) {
  const torch::NoGradGuard no_grad;
  const auto pixels = mapped_pixels(images);
  const auto latents = this->latents(pixels);      // [B, L, h, w]
  const auto codes = bottleneck_->codes(latents);  // [B, h, w]
  const PixelDistribution predicted = decoder_(bottleneck_->embed(codes));
  DvaeEvaluation evaluation{.codes = codes,
                            .loss = loss_of(predicted, pixels, latents, codes, relaxation),
                            .hard_images = image_of(predicted)};
  if (is(BottleneckKind::kGumbel))
    evaluation.soft_images = image_of(decoder_(bottleneck_->pass(latents, relaxation).embeddings));
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
