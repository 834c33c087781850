#include "experiment/stages/clip_task.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/image/image.h"
#include "data/rank_slice.h"
#include "eval/retrieval.h"
#include "experiment/config/cost_estimate.h"
#include "nn/contrastive_loss.h"
#include "tensor/to_device.h"

namespace dalle {
namespace {

constexpr int64_t kShownRows = 8;     // of sample images: a caption each
constexpr int64_t kShownColumns = 8;  // its own image and those most similar to it

SampleSourceOptions with_clip_captions(SampleSourceOptions options,
                                       const ExperimentConfig& config) {
  options.caption_length = config.clip->model.max_caption_tokens();
  return options;
}

SampleSourceOptions clip_training_options(const ExperimentConfig& config) {
  SampleSourceOptions options = with_clip_captions(source_options(config), config);
  options.crop = CropKind::kTransformer;
  options.bpe_dropout = config.tokenizer.dropout;
  return options;
}

/// The rows of all ranks in the order of the global batch. Their gradient reaches this rank's own
/// rows, multiplied by the number of ranks: each rank's loss is only that part of the whole one.
/// @param own  [b, ...]
/// @return     [rows, ...]
at::Tensor gather_rows(const at::Tensor& own, int64_t rows, ProcessGroup& group) {
  const int64_t ranks = group.world_size();
  if (ranks == 1) return own;
  const int64_t most = (rows + ranks - 1) / ranks;  // parts of equal size can be gathered
  std::vector<int64_t> sizes = own.sizes().vec();
  sizes[0] = most;
  const auto padded = torch::zeros(sizes, own.options().requires_grad(false));
  padded.narrow(0, 0, own.size(0)).copy_(own.detach());
  sizes[0] = most * ranks;
  const auto all = torch::empty(sizes, padded.options());
  group.all_gather(all, padded);
  std::vector<at::Tensor> parts;
  for (int64_t rank = 0; rank < ranks; ++rank)
    parts.push_back(all.narrow(0, rank * most, RankSlice(rows, rank, ranks).size()));
  parts[static_cast<size_t>(group.rank())] = own + (ranks - 1) * (own - own.detach());
  return torch::cat(parts);
}

}  // namespace

bool is_clip_block_matrix(const std::string& name) {
  return name.find("_block_") != name.npos && name.ends_with(".weight");
}

void check_whole_share(const TrainConfig& train, int64_t ranks) {
  const int64_t share = (train.batch_size + ranks - 1) / ranks;
  if (train.micro_batch_size > 0 && train.micro_batch_size < share)
    throw Error(
        "clip.train.micro_batch_size: found {}, expected 0, or at least {} for {} rank{}, since "
        "the contrastive loss compares all samples of clip.train.batch_size, which is {}; to save "
        "memory, use more ranks, clip.model.recompute or a smaller batch",
        train.micro_batch_size, share, ranks, ranks == 1 ? "" : "s", train.batch_size);
}

ClipTask::ClipTask(const ExperimentConfig& config, ExperimentData& data, const Tokenizer& tokenizer,
                   c10::Device device)
    : TrainTask(
          {.name = std::string(to_string(Stage::kClip)),
           .sample_every = config.clip->train.eval_every,
           .sample_every_key = "clip.train.eval_every",
           .sample_name = "retrieval",
           .flops_per_sample = estimate_clip_cost(config, tokenizer.vocab_size()).training_flops,
           .uses_muon = is_clip_block_matrix,
           .decays =
               [](const std::string& name) {
                 return name != "logit_scale" && !name.ends_with(".gain") &&
                        !name.ends_with(".bias");
               }}),
      config_(config),
      train_config_(config.clip->train),
      device_(device),
      tokenizer_(tokenizer),
      train_(data.train(), &tokenizer, data.skipped_train(), clip_training_options(config)),
      validation_(data.validation(), &tokenizer, data.skipped_validation(),
                  with_clip_captions(validation_options(config), config)),
      model_(config.clip->model, config.data.image_size, tokenizer.vocab_size(),
             config.clip->train.precision) {
  model_->initialize(initial_weights_generator(config, Stage::kClip));
  model_->to(device);
}

ClipTask::Embeddings ClipTask::embed(const Batch& batch) {
  return {.images = model_->embed_images(unit_images(batch.images, device_)),
          .captions = model_->embed_captions(to_device(batch.captions, device_))};
}

/// As many samples at once as the evaluations of other stages take.
ClipTask::Embeddings ClipTask::embed_in_parts(const Batch& batch) {
  const int64_t size = evaluation_batch_size(train_config_);
  std::vector<at::Tensor> images, captions;
  for (int64_t begin = 0; begin < batch.size(); begin += size) {
    const Embeddings part = embed(batch.slice(begin, std::min(begin + size, batch.size())));
    images.push_back(part.images);
    captions.push_back(part.captions);
  }
  return {.images = torch::cat(images), .captions = torch::cat(captions)};
}

/// [B] int64 on the device: equal where captions have the same tokens. BPE dropout and the number
/// of tokens that the model reads do not matter.
at::Tensor ClipTask::caption_labels(const Batch& batch) const {
  std::vector<int64_t> labels;
  for (const std::string& text : batch.texts) {
    const std::vector<int64_t> tokens = tokenizer_.encode(text);
    const std::string_view bytes(reinterpret_cast<const char*>(tokens.data()),
                                 tokens.size() * sizeof(int64_t));
    labels.push_back(static_cast<int64_t>(std::stoull(sha256(bytes).substr(0, 16), nullptr, 16)));
  }
  return to_device(torch::tensor(labels, torch::kLong), device_);
}

TaskLoss ClipTask::loss(const Batch& micro_batch, const LossContext& context) {
  ProcessGroup& group = context.group;
  const int64_t rows = context.counts.samples, ranks = group.world_size();
  DALLE_CHECK(micro_batch.size() == RankSlice(rows, group.rank(), ranks).size());
  const auto [images, captions] = embed(micro_batch);
  at::Tensor labels;
  if (train_config_.same_caption_positive)
    labels = gather_rows(caption_labels(micro_batch), rows, group);
  // One after the other: all ranks must gather in the same order.
  const at::Tensor all_images = gather_rows(images, rows, group);
  const at::Tensor all_captions = gather_rows(captions, rows, group);
  const ContrastiveLoss loss =
      contrastive_loss(all_images, all_captions, model_->logit_scale(), labels);
  return {.total = loss.total / ranks,
          .parts = {{"image_to_text", loss.image_to_text / ranks},
                    {"text_to_image", loss.text_to_image / ranks}}};
}

/// Describes the weights after the update; their EMA is bound only in evaluations.
std::vector<Metric> ClipTask::scheduled(int64_t) const {
  const torch::NoGradGuard no_grad;
  return {{"logit_scale", model_->logit_scale().item<double>(), "scale {:.1f}"}};
}

/// In chunks of the same number of samples; the remaining ones would be easier to tell apart.
std::optional<EvaluationPart> ClipTask::evaluate(int64_t, const RankShare& share) {
  EvaluationPart part;
  TrainConfig whole_chunks = train_config_;
  const int64_t samples = std::min(train_config_.eval_samples, validation_.order().size());
  if (samples < 2) {
    log_warning(
        "clip: skipping the evaluation, which compares samples with one another: found {} usable "
        "validation sample(s), expected at least 2",
        samples);
    return std::nullopt;
  }
  const int64_t chunk = std::min(train_config_.eval_chunk, samples);
  whole_chunks.eval_samples = samples / chunk * chunk;
  const auto evaluate_chunk = [&](int64_t number, const Batch& batch) {
    const auto [images, captions] = embed_in_parts(batch);
    const at::Tensor labels = caption_labels(batch);
    const ContrastiveLoss loss =
        contrastive_loss(images, captions, model_->logit_scale(),
                         train_config_.same_caption_positive ? labels : at::Tensor());
    RunningMeans& means = part.batches[number];
    means.add("image_to_text", loss.image_to_text.item<double>(), batch.size());
    means.add("text_to_image", loss.text_to_image.item<double>(), batch.size());
    for (const auto& [name, found] : retrieval_shares(at::matmul(images, captions.t()), labels))
      means.add(name, found, batch.size());
  };
  if (!for_each_evaluation_batch(validation_, whole_chunks, config_.data, share, evaluate_chunk,
                                 chunk))
    return std::nullopt;
  return part;
}

Evaluation ClipTask::summarize(int64_t, const EvaluationTotals& totals) const {
  const auto mean = [&](const std::string& name) { return totals.means.mean(name); };
  const double total = (mean("image_to_text") + mean("text_to_image")) / 2;
  Evaluation evaluation{
      .score = total,
      .metrics = {{"validation", total, "validation {:.4f}"},
                  {"validation/image_to_text", mean("image_to_text"), "image_to_text {:.4f}"},
                  {"validation/text_to_image", mean("text_to_image"), "text_to_image {:.4f}"}}};
  for (const std::string direction : {"image_to_text", "text_to_image"})
    for (const int64_t k : kRetrievedAt) {
      const std::string name = fmt::format("{}_at_{}", direction, k);
      const std::string shown = k == 1 ? direction : "";
      evaluation.metrics.push_back({name, mean(name), fmt::format("{}@{} {{:.3f}}", shown, k)});
    }
  return evaluation;
}

/// A group is an image of the first chunk, and the images most similar to its caption.
ImageGroups ClipTask::sample_images(int64_t, const RankShare& share) {
  ImageGroups groups;
  if (share.rank >= kShownRows) return groups;
  const Batch batch =
      first_samples(validation_, std::min(train_config_.eval_samples, train_config_.eval_chunk));
  if (batch.size() == 0) return groups;
  share.check_stop();
  const auto [images, captions] = embed_in_parts(batch);
  const int64_t shown = std::min(kShownColumns - 1, batch.size());
  for (int64_t row = 0; row < std::min(kShownRows, batch.size()); ++row) {
    if (!share.has(row)) continue;
    const at::Tensor nearest =
        std::get<1>(at::matmul(images, captions[row]).cpu().sort(/*stable=*/true, 0, true));
    std::vector<RgbImage>& group = groups[row];
    group.push_back(tensor_to_image(batch.images[row]));
    for (int64_t i = 0; i < shown; ++i)
      group.push_back(tensor_to_image(batch.images[nearest[i].item<int64_t>()]));
  }
  return groups;
}

void ClipTask::add_to_checkpoint(CheckpointContent& content) const {
  content.files[kTokenizerFile] = tokenizer_.model();
  content.files[kConfigFile] = dump_config(config_);
}

}  // namespace dalle
