#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "core/stop_signal.h"
#include "data/code_cache.h"
#include "data/sample_source.h"
#include "dist/process_group.h"
#include "experiment/config/experiment_config.h"
#include "experiment/stages/experiment_data.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "train/train_task.h"

namespace dalle {

/// Whether Muon updates a parameter: attention and MLP; not embeddings, positions and heads.
bool is_block_matrix(const std::string& name);

/// Stage two: the transformer learns captions and image tokens as one sequence. The dVAE is frozen.
/// Source: Ramesh et al. 2021, section 2.2 and appendix B
class DalleTask : public TrainTask {
 public:
  /// All arguments must outlive the task.
  /// @param vae  trained, with the weights that compute the image tokens
  DalleTask(const ExperimentConfig& config, ExperimentData& data, const Tokenizer& tokenizer,
            DiscreteVae vae, c10::Device device);

  /// Computes the image tokens of all crops of all training images into `path`, unless they are
  /// there, and reads them from there instead of encoding at every step. Training gives the same
  /// results; to the bit where all micro-batches have one size, since libraries round differently
  /// for batches of different sizes.
  /// @return false if `stop` was requested before all were computed; what is done is kept
  bool cache_codes(const std::filesystem::path& path, ProcessGroup& group, const StopSignal& stop);

  torch::nn::Module& module() override { return *model_; }
  Sample sample(int64_t position) const override { return train_.at(position); }
  LossCounts count(const Batch& batch) const override;
  TaskLoss loss(const Batch& micro_batch, const LossContext& context) override;
  std::optional<EvaluationPart> evaluate(int64_t step, const RankShare& share) override;
  Evaluation summarize(int64_t step, const EvaluationTotals& totals) const override;
  ImageGroups sample_images(int64_t step, const RankShare& share) override;
  void add_to_checkpoint(CheckpointContent& content) const override;

 private:
  at::Tensor codes_of(const Batch& batch);

  const ExperimentConfig& config_;
  c10::Device device_;
  const ExperimentData& data_;
  const Tokenizer& tokenizer_;
  SampleSource train_;
  SampleSource validation_;
  DiscreteVae vae_;
  DalleModel model_;
  std::optional<CodeCache> cache_;
};

}  // namespace dalle
