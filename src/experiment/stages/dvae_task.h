#pragma once

#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "data/sample_source.h"
#include "experiment/config/experiment_config.h"
#include "experiment/stages/codebook_updates.h"
#include "experiment/stages/experiment_data.h"
#include "model/discrete_vae.h"
#include "train/train_task.h"

namespace dalle {

/// Whether Muon updates a parameter: the residual blocks' convolutions; not the first and last ones
/// of encoder and decoder.
bool is_residual_kernel(const std::string& name);

/// Stage one: the discrete VAE learns to compress images into codes.
/// Its bottleneck may differ from the paper's; then there is no relaxation to schedule.
/// Source: Ramesh et al. 2021, section 2.1 and appendix A
class DvaeTask : public TrainTask {
 public:
  /// All arguments must outlive the task.
  DvaeTask(const ExperimentConfig& config, ExperimentData& data, c10::Device device);

  torch::nn::Module& module() override { return *vae_; }
  Sample sample(int64_t position) const override { return train_.at(position); }
  TaskLoss loss(const Batch& micro_batch, const LossContext& context) override;
  void after_update(const LossContext& context) override;
  NamedTensors state() override;
  std::vector<Metric> scheduled(int64_t step) const override;
  std::optional<EvaluationPart> evaluate(int64_t step, const RankShare& share) override;
  Evaluation summarize(int64_t step, const EvaluationTotals& totals) const override;
  ImageGroups sample_images(int64_t step, const RankShare& share) override;
  void add_to_checkpoint(CheckpointContent& content) const override;

 private:
  bool is_gumbel() const { return config_.dvae.model.bottleneck == BottleneckKind::kGumbel; }

  const ExperimentConfig& config_;
  c10::Device device_;
  SampleSource train_;
  SampleSource validation_;
  DiscreteVae vae_;
  std::optional<CodebookUpdates> codebook_updates_;  ///< of `bottleneck: vq`
};

}  // namespace dalle
