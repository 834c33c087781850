#include "experiment/stages/dalle_task.h"

#include <utility>
#include <vector>

#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/files.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/seeds.h"
#include "data/fingerprint.h"
#include "data/image/image.h"
#include "data/rank_slice.h"
#include "dist/agreement.h"
#include "dist/stop_condition.h"
#include "experiment/config/cost_estimate.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "tensor/named_tensors.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

constexpr int64_t kShownCaptions = 8;  // where the config names none

SampleSourceOptions training_options(const ExperimentConfig& config) {
  SampleSourceOptions options = source_options(config);
  options.crop = CropKind::kTransformer;
  options.crops_per_image = config.dalle.crops_per_image;
  options.bpe_dropout = config.tokenizer.dropout;
  options.caption_dropout = config.dalle.train.caption_dropout;
  return options;
}

/// The model without dropout, until destroyed.
class EvaluationMode {
 public:
  explicit EvaluationMode(DalleModel& model) : model_(model) { model_->eval(); }
  ~EvaluationMode() { model_->train(); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  DalleModel& model_;
};

}  // namespace

bool is_block_matrix(const std::string& name) {
  return name.starts_with("block_") && name.ends_with(".weight");
}

DalleTask::DalleTask(const ExperimentConfig& config, ExperimentData& data,
                     const Tokenizer& tokenizer, DiscreteVae vae, c10::Device device)
    : TrainTask(
          {.name = std::string(to_string(Stage::kDalle)),
           .sample_every = config.dalle.train.sample_every,
           .sample_every_key = "dalle.train.sample_every",
           .sample_name = "samples",
           .flops_per_sample = estimate_dalle_cost(config, tokenizer.vocab_size()).training_flops,
           .uses_muon = is_block_matrix}),
      config_(config),
      device_(device),
      data_(data),
      tokenizer_(tokenizer),
      train_(data.train(), &tokenizer, data.skipped_train(), training_options(config)),
      validation_(data.validation(), &tokenizer, data.skipped_validation(),
                  validation_options(config)),
      vae_(std::move(vae)),
      model_(config.dalle.model, config.layout(), tokenizer.vocab_size(),
             config.dvae.model.vocab_size, config.dalle.train.precision) {
  model_->initialize(initial_weights_generator(config, Stage::kDalle));
  model_->to(device);
  vae_->to(device);
  for (at::Tensor& parameter : vae_->parameters()) parameter.set_requires_grad(false);
}

bool DalleTask::cache_codes(const std::filesystem::path& path, ProcessGroup& group,
                            const StopSignal& stop) {
  const int64_t size = train_.order().size();
  // All that determines the codes: the encoder's weights and precision, the images, and the crops.
  const std::string source =
      sha256(safetensors_bytes(weights_of(*vae_)) + data_.fingerprint() +
             content_fingerprint(data_.train()) +
             (config_.data.kind == DatasetKind::kShapes ? dump_config(config_.data.shapes) : "") +
             fmt::format(" {} {} {} {}", config_.data.image_size, config_.data.background,
                         to_string(config_.dalle.train.precision), config_.seed));
  const CodeCacheContent content{.size = size,
                                 .crops = config_.dalle.crops_per_image,
                                 .image_size = config_.data.image_size,
                                 .codes_per_image = config_.layout().image_length(),
                                 .vocab_size = config_.dvae.model.vocab_size,
                                 .source = source};
  const auto image = [this](int64_t index, int64_t crop) { return train_.image(index, crop); };
  // As many at once as training would encode: libraries round differently for batches of different
  // sizes, which flips the argmax where two logits are nearly equal.
  const TrainConfig& train = config_.dalle.train;
  const int64_t at_once = train.micro_batch_size > 0
                              ? train.micro_batch_size
                              : RankSlice(train.batch_size, 0, group.world_size()).size();
  const auto encode = [this, at_once](const at::Tensor& images) {
    const int64_t count = images.size(0);
    const auto filled = images.index_select(0, torch::arange(at_once).clamp_max(count - 1));
    return vae_->encode(unit_images(filled, device_)).narrow(0, 0, count);
  };
  std::optional<Progress> shown;
  const StopCondition condition(stop, group);
  const auto progress = [&](int64_t done, int64_t total) {
    if (group.is_rank_zero()) {
      if (!shown) shown.emplace("dalle: computing image tokens of crops", total, /*begin=*/done);
      shown->update(done);
    }
    return !condition.requested();
  };
  const auto gather = [&](const at::Tensor& own) {
    const auto all =
        torch::empty({group.world_size() * own.numel()}, own.options().device(device_));
    group.all_gather(all, own.to(device_));
    return all.cpu().view({group.world_size(), own.numel()});
  };
  if (group.world_size() > 1) check_agreement(group, "source of the code cache", source);
  if (group.any(condition.requested())) return false;
  const bool done = compute_code_cache(path, content, image, encode,
                                       {.batch_size = at_once,
                                        .workers = config_.data.workers,
                                        .prefetch = config_.data.prefetch,
                                        .progress = progress,
                                        .rank = group.rank(),
                                        .ranks = group.world_size(),
                                        .gather = gather});
  shown.reset();
  if (!done) return false;
  log_info("dalle: training reads the image tokens of {} crops from {}", content.rows(),
           path.string());
  cache_.emplace(path, content);
  train_.use_codes([this](int64_t index, int64_t crop) { return cache_->lookup(index, crop); });
  return true;
}

/// [B, N] image tokens of a batch: read from the cache, or computed by the frozen dVAE.
at::Tensor DalleTask::codes_of(const Batch& batch) {
  if (batch.codes.defined()) return to_device(batch.codes, device_);
  return image_tokens(vae_, batch, config_);
}

LossCounts DalleTask::count(const Batch& batch) const {
  return model_->count_targets(batch.captions);
}

TaskLoss DalleTask::loss(const Batch& micro_batch, const LossContext& context) {
  const uint64_t dropout_seed = derive_seed(
      static_cast<uint64_t>(config_.seed), SeedPurpose::kDropout,
      static_cast<uint64_t>(context.step), static_cast<uint64_t>(micro_batch.positions.front()));
  const DalleLoss loss =
      model_->loss(micro_batch.captions, codes_of(micro_batch), context.counts, dropout_seed);
  return {.total = loss.total, .parts = {{"text", loss.text}, {"image", loss.image}}};
}

std::optional<EvaluationPart> DalleTask::evaluate(int64_t, const RankShare& share) {
  const EvaluationMode without_dropout(model_);
  EvaluationPart part;
  const auto evaluate_batch = [&](int64_t number, const Batch& batch) {
    const LossCounts counts = model_->count_targets(batch.captions);
    const DalleLoss loss = model_->loss(batch.captions, codes_of(batch), counts);
    RunningMeans& means = part.batches[number];
    means.add("text", loss.text.item<double>(), counts.text_tokens);
    means.add("image", loss.image.item<double>(), counts.image_tokens);
  };
  if (!for_each_evaluation_batch(validation_, config_.dalle.train, config_.data, share,
                                 evaluate_batch))
    return std::nullopt;
  return part;
}

Evaluation DalleTask::summarize(int64_t, const EvaluationTotals& totals) const {
  const double weight = config_.dalle.model.text_loss_weight;
  const double text = totals.means.mean("text"), image = totals.means.mean("image");
  const double total = weight * text + (1 - weight) * image;
  return {.score = total,
          .metrics = {{"validation", total, "validation {:.4f}"},
                      {"validation/text", text, "text {:.4f}"},
                      {"validation/image", image, "image {:.4f}"}}};
}

/// A group is the images of a caption.
ImageGroups DalleTask::sample_images(int64_t, const RankShare& share) {
  std::vector<std::string> captions = config_.sample.captions;
  if (captions.empty()) captions = first_samples(validation_, kShownCaptions).texts;
  const EvaluationMode without_dropout(model_);
  ImageGroups groups;
  std::vector<int64_t> numbers;
  std::vector<CaptionImages> requests;
  for (size_t i = 0; i < captions.size(); ++i) {
    const auto number = static_cast<int64_t>(i);
    if (!share.has(number)) continue;
    numbers.push_back(number);
    requests.push_back({.caption = pad_caption(tokenizer_.encode(captions[i]),
                                               config_.layout().max_caption_tokens()),
                        .count = config_.sample.count});
    groups[number].resize(static_cast<size_t>(config_.sample.count));
  }
  generate_codes(
      model_, requests, config_.sample,
      {.seed = static_cast<uint64_t>(config_.seed), .decode = config_.sample},
      [&](size_t request, int64_t image, const at::Tensor& codes) {
        groups[numbers[request]][static_cast<size_t>(image)] = decode_image(vae_, codes);
      },
      [&](int64_t, int64_t) { share.check_stop(); });
  return groups;
}

void DalleTask::add_to_checkpoint(CheckpointContent& content) const {
  content.tensors[kDvaeTensors] = weights_of(*vae_);
  content.files[kTokenizerFile] = tokenizer_.model();
  content.files[kConfigFile] = dump_config(config_);
}

}  // namespace dalle
