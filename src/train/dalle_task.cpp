#include "dalle/train/dalle_task.h"

#include <torch/types.h>

#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/log.h"
#include "dalle/core/progress.h"
#include "dalle/core/seeds.h"
#include "dalle/data/batch_part.h"
#include "dalle/data/fingerprint.h"
#include "dalle/model/model_io.h"
#include "dalle/sample/draw_pictures.h"
#include "dalle/sample/image_grid.h"
#include "dalle/train/checkpoint_files.h"
#include "dalle/train/cost_estimate.h"
#include "dalle/train/running_means.h"

namespace dalle {
namespace {

constexpr int64_t kShownCaptions = 8;  // where the config names none

SampleStreamOptions training_options(const ExperimentConfig& config) {
  SampleStreamOptions options = stream_options(config);
  options.crop = CropKind::kTransformer;
  options.crops_per_picture = config.dalle.crops_per_picture;
  options.bpe_dropout = config.tokenizer.dropout;
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

DalleTask::DalleTask(const ExperimentConfig& config, ExperimentData& data,
                     const Tokenizer& tokenizer, DiscreteVae vae, c10::Device device)
    : config_(config),
      device_(device),
      data_(data),
      tokenizer_(tokenizer),
      train_(data.train(), &tokenizer, data.skipped_train(), training_options(config)),
      validation_(data.validation(), &tokenizer, data.skipped_validation(),
                  validation_options(config)),
      vae_(std::move(vae)),
      model_(config.dalle.model, config.layout(), tokenizer.vocab_size(),
             config.dvae.model.vocab_size, config.dalle.train.precision) {
  model_->initialize(initial_weights_generator(config, /*stage=*/2));
  model_->to(device);
  vae_->to(device);
  for (at::Tensor& parameter : vae_->parameters()) parameter.set_requires_grad(false);
}

bool DalleTask::cache_codes(const std::filesystem::path& path, ProcessGroup& group,
                            const StopSignal& stop) {
  const int64_t size = train_.order().size();
  // Whatever decides the codes: the encoder's weights and precision, the pictures, and the crops.
  const std::string source =
      sha256(safetensors_bytes(weights_of(*vae_)) + data_.identity() +
             content_fingerprint(data_.train()) + dump_config(config_.data.shapes) +
             fmt::format(" {} {} {} {}", config_.data.image_size, config_.data.background,
                         to_string(config_.dalle.train.precision), config_.seed));
  const CodeCacheContent content{.size = size,
                                 .crops = config_.dalle.crops_per_picture,
                                 .image_size = config_.data.image_size,
                                 .codes_per_image = config_.layout().image_length(),
                                 .vocab_size = config_.dvae.model.vocab_size,
                                 .source = source};
  const auto image = [this](int64_t index, int64_t crop) { return train_.image(index, crop); };
  // As many at once as training would encode: libraries round otherwise for batches of other sizes,
  // which turns a code over where two are all but equal.
  const TrainConfig& train = config_.dalle.train;
  const int64_t at_once = train.micro_batch_size > 0
                              ? train.micro_batch_size
                              : BatchPart(train.batch_size, 0, group.world()).size();
  const auto encode = [this, at_once](const at::Tensor& images) {
    const int64_t count = images.size(0);
    const auto filled = images.index_select(0, torch::arange(at_once).clamp_max(count - 1));
    return vae_->encode(filled.to(device_).to(torch::kFloat32).div_(255)).narrow(0, 0, count);
  };
  std::optional<Progress> shown;
  const auto is_stopped = [&] { return stop.requested() || group.stop_is_wanted(); };
  const auto progress = [&](int64_t done, int64_t total) {
    if (!shown) shown.emplace("dalle: computing image tokens of crops", total, /*begin=*/done);
    shown->update(done);
    return !is_stopped();
  };
  const bool done = group.is_first() && !is_stopped() &&
                    compute_code_cache(path, content, image, encode,
                                       {.batch_size = at_once,
                                        .workers = config_.data.workers,
                                        .prefetch = config_.data.prefetch,
                                        .progress = progress});
  shown.reset();
  if (group.broadcast(done ? "done" : "stopped") != "done") return false;
  log_info("dalle: training reads the image tokens of {} crops from {}", content.rows(),
           path.string());
  cache_.emplace(path, content);
  train_.use_codes([this](int64_t index, int64_t crop) { return cache_->lookup(index, crop); });
  return true;
}

/// [B, N] image tokens of a batch: read from the cache, or made by the frozen dVAE.
at::Tensor DalleTask::codes_of(const Batch& batch) {
  if (batch.codes.defined()) return batch.codes.to(device_);
  const torch::NoGradGuard no_grad;
  const at::Tensor images = unit_images(batch, device_);
  if (config_.dalle.image_tokens == ImageTokens::kArgmax) return vae_->encode(images).flatten(1);
  std::vector<uint64_t> seeds;
  for (const int64_t position : batch.positions)
    seeds.push_back(derive_seed(static_cast<uint64_t>(config_.seed), SeedPurpose::kGumbelNoise,
                                static_cast<uint64_t>(position), /*stage two=*/1));
  return vae_->sample_codes(images, seeds).flatten(1);
}

/// Attention and MLP; not embeddings, positions and heads.
bool DalleTask::is_hidden_matrix(const std::string& name) const {
  return name.starts_with("block_") && name.ends_with(".weight");
}

BatchTotals DalleTask::count(const Batch& batch) const {
  return {.samples = batch.size(),
          .text_tokens = model_->count_targets(batch.captions).text_tokens};
}

TaskLoss DalleTask::loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) {
  const LossCounts counts{.text_tokens = totals.text_tokens,
                          .image_tokens = totals.samples * config_.layout().image_length()};
  const uint64_t dropout_seed = derive_seed(static_cast<uint64_t>(config_.seed),
                                            SeedPurpose::kDropout, static_cast<uint64_t>(step),
                                            static_cast<uint64_t>(micro_batch.positions.front()));
  const DalleLoss loss =
      model_->loss(micro_batch.captions.to(device_), codes_of(micro_batch), counts, dropout_seed);
  return {.total = loss.total, .parts = {{"text", loss.text}, {"image", loss.image}}};
}

Evaluation DalleTask::evaluate(int64_t, const CheckStop& check_stop) {
  RunningMeans means;
  const EvaluationMode without_dropout(model_);
  const auto evaluate_batch = [&](const Batch& batch) {
    check_stop();
    const LossCounts counts = model_->count_targets(batch.captions);
    const DalleLoss loss = model_->loss(batch.captions.to(device_), codes_of(batch), counts);
    means.add("text", loss.text.item<double>(), counts.text_tokens);
    means.add("image", loss.image.item<double>(), counts.image_tokens);
  };
  if (!for_each_evaluation_batch(validation_, config_.dalle.train, config_.data, evaluate_batch))
    return {};
  const double weight = config_.dalle.model.text_loss_weight;
  const double text = means.mean("text"), image = means.mean("image");
  const double total = weight * text + (1 - weight) * image;
  return {.score = total,
          .metrics = {{"validation", total, "validation {:.4f}"},
                      {"validation/text", text, "text {:.4f}"},
                      {"validation/image", image, "image {:.4f}"}}};
}

std::vector<NamedPicture> DalleTask::pictures(int64_t, const CheckStop& check_stop) {
  std::vector<std::string> captions = config_.sample.captions;
  if (captions.empty()) captions = first_samples(validation_, kShownCaptions).texts;
  if (captions.empty()) return {};
  const EvaluationMode without_dropout(model_);
  const GenerateProgress check = [&](int64_t, int64_t) { check_stop(); };
  std::vector<Picture> pictures;
  for (const std::string& caption : captions) {
    const at::Tensor tokens =
        pad_caption(tokenizer_.encode(caption), config_.layout().max_caption_tokens());
    const GenerateOptions options{.seed = static_cast<uint64_t>(config_.seed),
                                  .count = config_.sample.count};
    for (Picture& picture : draw_pictures(model_, vae_, tokens, config_.sample, options, check))
      pictures.push_back(std::move(picture));
  }
  return {{"samples", image_grid(pictures, config_.sample.count)}};
}

void DalleTask::add_to_checkpoint(CheckpointContent& content) const {
  content.tensors[kDvaeTensors] = weights_of(*vae_);
  content.files[kTokenizerFile] = tokenizer_.model();
  content.files[kConfigFile] = dump_config(config_);
}

void DalleTask::check_checkpoint(const CheckpointContent& content) const {
  if (content.files.at(kTokenizerFile) != tokenizer_.model())
    throw Error(
        "dalle: its checkpoint was trained with another tokenizer than the run folder holds now");
}

double DalleTask::flops_per_sample() const {
  return estimate_dalle_cost(config_, tokenizer_.vocab_size()).training_flops;
}

}  // namespace dalle
