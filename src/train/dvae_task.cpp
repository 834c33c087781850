#include "dalle/train/dvae_task.h"

#include <cmath>

#include <torch/types.h>

#include "dalle/core/config_io.h"
#include "dalle/core/log.h"
#include "dalle/core/seeds.h"
#include "dalle/eval/reconstruction.h"
#include "dalle/nn/gumbel.h"
#include "dalle/sample/image_grid.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/cost_estimate.h"
#include "dalle/train/running_means.h"

namespace dalle {
namespace {

constexpr int64_t kShownPictures = 16;
constexpr int64_t kShownPairsPerRow = 4;
constexpr double kLargestGapDb = 1;  ///< between soft and hard codes, of a healthy dVAE
constexpr double kFlawlessDb = 45;   ///< of hard codes, whatever the gap: no error is visible

SampleStreamOptions without_captions(SampleStreamOptions options) {
  options.with_caption = false;
  return options;
}

/// Mean over the pictures, in decibels; one that comes back exactly counts as 100 and not as
/// infinity.
double mean_psnr(const at::Tensor& pictures, const at::Tensor& reconstructions) {
  return psnr(pictures, reconstructions).clamp_max(100.0).mean().item<double>();
}

}  // namespace

DvaeTask::DvaeTask(const ExperimentConfig& config, ExperimentData& data, c10::Device device)
    : config_(config),
      device_(device),
      train_(data.train(), nullptr, data.skipped_train(), without_captions(stream_options(config))),
      validation_(data.validation(), nullptr, data.skipped_validation(),
                  without_captions(validation_options(config))),
      vae_(config.dvae.model, config.dvae.train.precision) {
  vae_->initialize(initial_weights_generator(config, /*stage=*/1));
  vae_->to(device);
}

/// Noise by global position: the same however the batch is cut.
at::Tensor DvaeTask::noise_of(const Batch& batch) const {
  std::vector<uint64_t> seeds;
  for (const int64_t position : batch.positions)
    seeds.push_back(derive_seed(static_cast<uint64_t>(config_.seed), SeedPurpose::kGumbelNoise,
                                static_cast<uint64_t>(position)));
  return vae_->noise(seeds, config_.data.image_size, config_.data.image_size);
}

/// The residual blocks' convolutions; not the first and last ones of encoder and decoder.
bool DvaeTask::is_hidden_matrix(const std::string& name) const {
  return name.ends_with(".w") && name.find("_path.") != std::string::npos;
}

TaskLoss DvaeTask::loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) {
  const DvaeTrainConfig& train = config_.dvae.train;
  const at::Tensor images = unit_images(micro_batch, device_);
  const double kl_weight = train.kl_weight.at(step);
  const bool is_hard = train.hard_codes_from > 0 && step >= train.hard_codes_from;
  const DvaeLoss loss =
      is_hard ? vae_->straight_through_loss(images, kl_weight)
              : vae_->loss(images, noise_of(micro_batch), train.temperature.at(step), kl_weight);
  const double share =
      static_cast<double>(micro_batch.size()) / static_cast<double>(totals.samples);
  return {.total = loss.total * share,
          .parts = {{"reconstruction", loss.reconstruction * share}, {"kl", loss.kl * share}}};
}

std::vector<Metric> DvaeTask::scheduled(int64_t step) const {
  return {{"temperature", config_.dvae.train.temperature.at(step), "tau {:.3f}"},
          {"kl_weight", config_.dvae.train.kl_weight.at(step), "beta {:.2f}"}};
}

Evaluation DvaeTask::evaluate(int64_t step, const CheckStop& check_stop) {
  const DvaeTrainConfig& train = config_.dvae.train;
  RunningMeans means;
  std::vector<at::Tensor> codes_seen;
  const auto evaluate_batch = [&](const Batch& batch) {
    check_stop();
    const at::Tensor images = unit_images(batch, device_);  // [B, 3, S, S]
    const at::Tensor codes = vae_->encode(images);          // [B, h, w]
    const at::Tensor relaxed =                              // [B, K, h, w]
        gumbel_softmax(vae_->logits(images), noise_of(batch), train.temperature.at(step));
    const DvaeLoss loss = vae_->hard_loss(images, train.kl_weight.at(step));
    means.add("loss", loss.total.item<double>(), batch.size());
    means.add("reconstruction", loss.reconstruction.item<double>(), batch.size());
    means.add("kl", loss.kl.item<double>(), batch.size());
    means.add("psnr_soft", mean_psnr(images, vae_->decode_soft(relaxed)), batch.size());
    means.add("psnr_hard", mean_psnr(images, vae_->decode(codes)), batch.size());
    codes_seen.push_back(codes.cpu());
  };
  if (!for_each_evaluation_batch(validation_, train, config_.data, evaluate_batch)) return {};
  const CodebookHealth health =
      codebook_health(torch::cat(codes_seen), config_.dvae.model.vocab_size);
  const double gap = means.mean("psnr_soft") - means.mean("psnr_hard");
  const double largest_entropy = std::log(static_cast<double>(config_.dvae.model.vocab_size));
  const double entropy = largest_entropy - means.mean("kl");
  if (step == train.steps && gap > kLargestGapDb && means.mean("psnr_hard") < kFlawlessDb)
    log_warning(
        "dvae: images decoded from hard codes are {:.1f} dB worse than from soft ones: the decoder "
        "relies on mixtures of codes (posterior entropy {:.2f} of {:.2f} nats). Lower "
        "dvae.train.kl_weight.to, so that the posterior is sharp at the end, or train longer",
        gap, entropy, largest_entropy);
  return {.score = -means.mean("psnr_hard"),
          .metrics = {{"validation", means.mean("loss"), "validation {:.4f}"},
                      {"validation/reconstruction", means.mean("reconstruction")},
                      {"validation/kl", means.mean("kl"), "kl {:.3f}"},
                      {"psnr_soft", means.mean("psnr_soft"), "soft {:.2f} dB"},
                      {"psnr_hard", means.mean("psnr_hard"), "hard {:.2f} dB"},
                      {"psnr_gap", gap, "gap {:.2f} dB"},
                      {"posterior_entropy", entropy, "entropy {:.2f}"},
                      {"codes_used", health.used_share, "codes {:.3f}"},
                      {"perplexity", health.perplexity, "perplexity {:.1f}"}}};
}

std::vector<NamedPicture> DvaeTask::pictures(int64_t, const CheckStop&) {
  const Batch batch = first_samples(validation_, kShownPictures);
  if (batch.size() == 0) return {};
  const at::Tensor images = unit_images(batch, device_);
  const at::Tensor reconstructions = vae_->decode(vae_->encode(images));
  std::vector<Picture> pairs;  // each picture, then its reconstruction
  for (int64_t i = 0; i < batch.size(); ++i) {
    pairs.push_back(tensor_to_picture(images[i]));
    pairs.push_back(tensor_to_picture(reconstructions[i]));
  }
  return {{"reconstructions", image_grid(pairs, 2 * kShownPairsPerRow)}};
}

void DvaeTask::add_to_checkpoint(CheckpointContent& content) const {
  content.files[kConfigFile] = dump_config(config_);
}

double DvaeTask::flops_per_sample() const {
  return estimate_dvae_cost(config_).training_flops;
}

}  // namespace dalle
