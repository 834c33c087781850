#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "data/sample_source.h"
#include "experiment/config/experiment_config.h"
#include "experiment/stages/experiment_data.h"
#include "model/clip_model.h"
#include "train/train_task.h"

namespace dalle {

/// Whether Muon updates a parameter: attention and MLP of both transformers.
bool is_clip_block_matrix(const std::string& name);

/// Throws if a rank would split its part of the global batch into micro-batches: the contrastive
/// loss compares all samples of the batch.
/// @throws dalle::Error naming the key to change
void check_whole_share(const TrainConfig& train, int64_t ranks);

/// The contrastive model learns which caption belongs to which image. Images are cropped as for the
/// transformer, so it sees what that learns to generate, and captions are encoded likewise.
///
/// The loss is that of the global batch: each rank gathers the embeddings of all, computes the
/// whole loss and returns its share of it, with the gradient of its own embeddings.
/// Source: Radford et al. 2021, sections 2.3 to 2.5
class ClipTask : public TrainTask {
 public:
  /// All arguments must outlive the task. The config must have a `clip` section.
  ClipTask(const ExperimentConfig& config, ExperimentData& data, const Tokenizer& tokenizer,
           c10::Device device);

  torch::nn::Module& module() override { return *model_; }
  Sample sample(int64_t position) const override { return train_.at(position); }
  TaskLoss loss(const Batch& micro_batch, const LossContext& context) override;
  void after_update(const LossContext&) override { model_->limit_logit_scale(); }
  std::vector<Metric> scheduled(int64_t step) const override;
  std::optional<EvaluationPart> evaluate(int64_t step, const RankShare& share) override;
  Evaluation summarize(int64_t step, const EvaluationTotals& totals) const override;
  ImageGroups sample_images(int64_t step, const RankShare& share) override;
  void add_to_checkpoint(CheckpointContent& content) const override;

 private:
  struct Embeddings {
    at::Tensor images, captions;  ///< [B, E]
  };
  Embeddings embed(const Batch& batch);
  Embeddings embed_in_parts(const Batch& batch);
  at::Tensor caption_labels(const Batch& batch) const;

  const ExperimentConfig& config_;
  const ClipTrainConfig& train_config_;
  c10::Device device_;
  const Tokenizer& tokenizer_;
  SampleSource train_;
  SampleSource validation_;
  ClipModel model_;
};

}  // namespace dalle
