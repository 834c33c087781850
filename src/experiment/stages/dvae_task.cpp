#include "experiment/stages/dvae_task.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/log.h"
#include "data/image/image.h"
#include "eval/reconstruction.h"
#include "experiment/config/cost_estimate.h"
#include "metrics/running_means.h"

namespace dalle {
namespace {

constexpr int64_t kShownImages = 16;
constexpr int64_t kShownPairsPerRow = 4;
constexpr double kLargestGapDb = 1;  ///< between soft and hard codes, of a healthy dVAE
constexpr std::string_view kTerm = "validation/";  ///< begins the metrics of the loss's terms
constexpr double kFlawlessDb = 45;  ///< of hard codes, whatever the gap: no error is visible

SampleSourceOptions without_captions(SampleSourceOptions options) {
  options.with_caption = false;
  return options;
}

/// Mean over the images, in decibels; an exact reconstruction counts as 100 and not as infinity.
double mean_psnr(const at::Tensor& images, const at::Tensor& reconstructions) {
  return psnr(images, reconstructions).clamp_max(kFlawlessPsnr).mean().item<double>();
}

/// @param entropy, most  of the posterior, in nats
void warn_of_gap(double gap_db, double entropy, double most) {
  log_warning(
      "dvae: images decoded from hard codes are {:.1f} dB worse than from soft ones: the decoder "
      "relies on mixtures of codes (posterior entropy {:.2f} of {:.2f} nats). Lower "
      "dvae.train.kl_weight.to, so that the posterior is sharp at the end, or train longer",
      gap_db, entropy, most);
}

}  // namespace

bool is_residual_kernel(const std::string& name) {
  return name.ends_with(".w") && name.find("_path.") != std::string::npos;
}

DvaeTask::DvaeTask(const ExperimentConfig& config, ExperimentData& data, c10::Device device)
    : TrainTask({.name = std::string(to_string(Stage::kDvae)),
                 .sample_every = config.dvae.train.eval_every,
                 .sample_every_key = "dvae.train.eval_every",
                 .sample_name = "reconstructions",
                 .flops_per_sample = estimate_dvae_cost(config).training_flops,
                 .uses_muon = is_residual_kernel}),
      config_(config),
      device_(device),
      train_(data.train(), nullptr, data.skipped_train(), without_captions(source_options(config))),
      validation_(data.validation(), nullptr, data.skipped_validation(),
                  without_captions(validation_options(config))),
      vae_(config.dvae.model, config.dvae.train.precision) {
  vae_->initialize(initial_weights_generator(config, Stage::kDvae));
  vae_->to(device);
  if (!is_gumbel())
    log_info(
        "dvae: the bottleneck is {}: dvae.train.temperature, kl_weight and hard_codes_from "
        "have no effect",
        to_string(config.dvae.model.bottleneck));
  if (config.dvae.model.bottleneck == BottleneckKind::kVq)
    codebook_updates_.emplace(config.dvae.model.vq, vae_->codebook(),
                              static_cast<uint64_t>(config.seed));
}

/// Noise by global position: the same however the batch is split.
TaskLoss DvaeTask::loss(const Batch& micro_batch, const LossContext& context) {
  const DvaeTrainConfig& train = config_.dvae.train;
  const at::Tensor images = unit_images(micro_batch.images, device_);
  const bool is_hard = train.hard_codes_from > 0 && context.step >= train.hard_codes_from;
  const DvaeLoss loss = vae_->loss(
      images, {.noise = is_hard ? at::Tensor() : gumbel_noise(vae_, micro_batch, config_),
               .temperature = train.temperature.at(context.step),
               .kl_weight = train.kl_weight.at(context.step)});
  if (codebook_updates_)
    codebook_updates_->add(loss.passed, micro_batch.positions.front(), context);
  const double share =
      static_cast<double>(micro_batch.size()) / static_cast<double>(context.counts.samples);
  TaskLoss task_loss{.total = loss.total * share,
                     .parts = {{"reconstruction", loss.reconstruction * share}}};
  for (const LossTerm& term : loss.terms)
    task_loss.parts.emplace_back(term.name, term.value * share);
  return task_loss;
}

void DvaeTask::after_update(const LossContext& context) {
  if (codebook_updates_) codebook_updates_->apply(context, config_.distributed.bitwise);
}

NamedTensors DvaeTask::state() {
  return codebook_updates_ ? codebook_updates_->state() : NamedTensors();
}

std::vector<Metric> DvaeTask::scheduled(int64_t step) const {
  if (!is_gumbel()) return {};
  return {{"temperature", config_.dvae.train.temperature.at(step), "tau {:.3f}"},
          {"kl_weight", config_.dvae.train.kl_weight.at(step), "beta {:.2f}"}};
}

std::optional<EvaluationPart> DvaeTask::evaluate(int64_t step, const RankShare& share) {
  const DvaeTrainConfig& train = config_.dvae.train;
  const double temperature = train.temperature.at(step), kl_weight = train.kl_weight.at(step);
  const int64_t vocab_size = config_.dvae.model.vocab_size;
  EvaluationPart part;
  at::Tensor counts = torch::zeros({vocab_size}, torch::kLong);
  const auto evaluate_batch = [&](int64_t number, const Batch& batch) {
    const at::Tensor images = unit_images(batch.images, device_);  // [B, 3, S, S]
    const DvaeEvaluation found =
        vae_->evaluate(images, {gumbel_noise(vae_, batch, config_), temperature, kl_weight});
    RunningMeans& means = part.batches[number];
    means.add("loss", found.loss.total.item<double>(), batch.size());
    means.add("reconstruction", found.loss.reconstruction.item<double>(), batch.size());
    for (const LossTerm& term : found.loss.terms)
      means.add(std::string(kTerm) + term.name, term.value.item<double>(), batch.size());
    if (is_gumbel()) means.add("psnr_soft", mean_psnr(images, found.soft_images), batch.size());
    means.add("psnr_hard", mean_psnr(images, found.hard_images), batch.size());
    counts += code_counts(found.codes.cpu(), vocab_size);
  };
  if (!for_each_evaluation_batch(validation_, train, config_.data, share, evaluate_batch))
    return std::nullopt;
  const int64_t* count = counts.const_data_ptr<int64_t>();
  part.histogram.assign(count, count + vocab_size);
  return part;
}

Evaluation DvaeTask::summarize(int64_t step, const EvaluationTotals& totals) const {
  const RunningMeans& means = totals.means;
  const CodebookHealth health = codebook_health(torch::tensor(totals.histogram, torch::kLong));
  const double hard = means.mean("psnr_hard");
  Evaluation evaluation{.score = -hard,
                        .metrics = {{"validation", means.mean("loss"), "validation {:.4f}"},
                                    {"validation/reconstruction", means.mean("reconstruction")}}};
  std::vector<Metric>& metrics = evaluation.metrics;
  for (const auto& [name, mean] : means.means())
    if (name.starts_with(kTerm))
      metrics.push_back({name, mean, name.substr(kTerm.size()) + " {:.3f}"});
  if (is_gumbel()) metrics.push_back({"psnr_soft", means.mean("psnr_soft"), "soft {:.2f} dB"});
  metrics.push_back({"psnr_hard", hard, "hard {:.2f} dB"});
  if (is_gumbel()) {
    const double gap = means.mean("psnr_soft") - hard;
    const double most = std::log(static_cast<double>(config_.dvae.model.vocab_size));
    const double entropy = most - means.mean("validation/kl");
    metrics.push_back({"psnr_gap", gap, "gap {:.2f} dB"});
    metrics.push_back({"posterior_entropy", entropy, "entropy {:.2f}"});
    if (step == config_.dvae.train.steps && gap > kLargestGapDb && hard < kFlawlessDb)
      warn_of_gap(gap, entropy, most);
  }
  metrics.push_back({"codes_used", health.used_share, "codes {:.3f}"});
  metrics.push_back({"perplexity", health.perplexity, "perplexity {:.1f}"});
  metrics.push_back(
      {"perplexity_share", health.perplexity / static_cast<double>(config_.dvae.model.vocab_size)});
  return evaluation;
}

/// Each image, then its reconstruction; a group is a row of the grid.
ImageGroups DvaeTask::sample_images(int64_t, const RankShare& share) {
  const Batch batch = first_samples(validation_, kShownImages);
  ImageGroups rows;
  for (int64_t row = 0; row * kShownPairsPerRow < batch.size(); ++row) {
    if (!share.has(row)) continue;
    share.check_stop();
    const int64_t begin = row * kShownPairsPerRow;
    const Batch part = batch.slice(begin, std::min(begin + kShownPairsPerRow, batch.size()));
    const at::Tensor images = unit_images(part.images, device_);
    const at::Tensor reconstructions = vae_->decode(vae_->encode(images));
    for (int64_t i = 0; i < part.size(); ++i) {
      rows[row].push_back(tensor_to_image(images[i]));
      rows[row].push_back(tensor_to_image(reconstructions[i]));
    }
  }
  return rows;
}

void DvaeTask::add_to_checkpoint(CheckpointContent& content) const {
  content.files[kConfigFile] = dump_config(config_);
}

}  // namespace dalle
