#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "dalle/data/code_cache.h"
#include "dalle/data/sample_stream.h"
#include "dalle/dist/process_group.h"
#include "dalle/model/dalle_model.h"
#include "dalle/model/discrete_vae.h"
#include "dalle/train/experiment_config.h"
#include "dalle/train/experiment_data.h"
#include "dalle/train/stop_signal.h"
#include "dalle/train/train_task.h"

namespace dalle {

/// Stage two: the transformer learns captions and image tokens as one sequence. The dVAE is frozen.
/// Source: Ramesh et al. 2021, section 2.2 and appendix B
class DalleTask : public TrainTask {
 public:
  /// All arguments must outlive the task.
  /// @param vae  trained, with the weights that codes are to be made with
  DalleTask(const ExperimentConfig& config, ExperimentData& data, const Tokenizer& tokenizer,
            DiscreteVae vae, c10::Device device);

  /// Computes the image tokens of all crops of all training pictures into `path`, unless they are
  /// there, and takes them from there instead of encoding at every step. Training comes out the
  /// same; to the bit where all micro-batches have one size, since libraries round otherwise for
  /// batches of other sizes.
  /// @return false if `stop` was requested before all were computed; what is done is kept
  bool cache_codes(const std::filesystem::path& path, ProcessGroup& group, const StopSignal& stop);

  std::string stage() const override { return "dalle"; }
  torch::nn::Module& module() override { return *model_; }
  Sample sample(int64_t position) const override { return train_.at(position); }
  bool is_hidden_matrix(const std::string& name) const override;
  BatchTotals count(const Batch& batch) const override;
  TaskLoss loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) override;
  Evaluation evaluate(int64_t step, const CheckStop& check_stop) override;
  int64_t picture_every() const override { return config_.dalle.train.sample_every; }
  std::string picture_key() const override { return "dalle.train.sample_every"; }
  std::vector<NamedPicture> pictures(int64_t step, const CheckStop& check_stop) override;
  void add_to_checkpoint(CheckpointContent& content) const override;
  void check_checkpoint(const CheckpointContent& content) const override;
  double flops_per_sample() const override;

 private:
  at::Tensor codes_of(const Batch& batch);

  const ExperimentConfig& config_;
  c10::Device device_;
  const ExperimentData& data_;
  const Tokenizer& tokenizer_;
  SampleStream train_;
  SampleStream validation_;
  DiscreteVae vae_;
  DalleModel model_;
  std::optional<CodeCache> cache_;
};

}  // namespace dalle
