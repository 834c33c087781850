#pragma once

#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "dalle/data/sample_stream.h"
#include "dalle/model/discrete_vae.h"
#include "dalle/train/experiment_config.h"
#include "dalle/train/experiment_data.h"
#include "dalle/train/train_task.h"

namespace dalle {

/// Stage one: the discrete VAE learns to compress pictures into codes.
/// Source: Ramesh et al. 2021, section 2.1 and appendix A
class DvaeTask : public TrainTask {
 public:
  /// All arguments must outlive the task.
  DvaeTask(const ExperimentConfig& config, ExperimentData& data, c10::Device device);

  std::string stage() const override { return "dvae"; }
  torch::nn::Module& module() override { return *vae_; }
  Sample sample(int64_t position) const override { return train_.at(position); }
  bool is_hidden_matrix(const std::string& name) const override;
  BatchTotals count(const Batch& batch) const override { return {.samples = batch.size()}; }
  TaskLoss loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) override;
  std::vector<Metric> scheduled(int64_t step) const override;
  Evaluation evaluate(int64_t step, const CheckStop& check_stop) override;
  int64_t picture_every() const override { return config_.dvae.train.eval_every; }
  std::vector<NamedPicture> pictures(int64_t step, const CheckStop& check_stop) override;
  void add_to_checkpoint(CheckpointContent& content) const override;
  double flops_per_sample() const override;

 private:
  at::Tensor noise_of(const Batch& batch) const;

  const ExperimentConfig& config_;
  c10::Device device_;
  SampleStream train_;
  SampleStream validation_;
  DiscreteVae vae_;
};

}  // namespace dalle
