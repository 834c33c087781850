#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "checkpoint/checkpoint.h"
#include "data/batch.h"
#include "dist/process_group.h"
#include "metrics/metric_log.h"
#include "nn/loss_counts.h"
#include "train/evaluation.h"
#include "train/rank_shares.h"

namespace torch::nn {
class Module;
}

namespace dalle {

/// The facts about a stage that stay the same while it trains.
struct StageTraits {
  std::string name = {};     ///< "dvae", "dalle": names the checkpoints' folder and the metrics
  int64_t sample_every = 1;  ///< steps between two sets of sample images
  std::string sample_every_key = {};  ///< the config key of this value, for messages
  std::string sample_name = {};       ///< what the sample images are called in files and reports
  double flops_per_sample = 0;        ///< useful FLOPs of training, forward and backward
  /// Whether Muon updates a parameter: the matrix or the kernels of a hidden layer.
  std::function<bool(const std::string& parameter)> uses_muon = [](const std::string&) {
    return false;
  };
  /// Whether weight decay applies to a parameter.
  std::function<bool(const std::string& parameter)> decays = [](const std::string&) {
    return true;
  };
};

/// What a loss may depend on besides its micro-batch.
struct LossContext {
  LossCounts counts;  ///< of the global batch that the micro-batch is a part of
  int64_t step = 0;   ///< update about to be made, 0-based: what schedules and noise depend on
  /// For losses over the global batch. They may call collectives only where a step has a single
  /// micro-batch: a rank that is asked to stop skips the others.
  ProcessGroup& group;
};

/// A micro-batch's share of the global batch's loss: shares add up to it.
struct TaskLoss {
  at::Tensor total;                                       ///< [] float32, with gradient
  std::vector<std::pair<std::string, at::Tensor>> parts;  ///< [] each, to be logged as well
};

/// What one stage trains: a module, its samples, and a loss. The Trainer does the rest, the same
/// for all stages.
class TrainTask {
 public:
  explicit TrainTask(StageTraits traits) : traits_(std::move(traits)) {}
  virtual ~TrainTask() = default;

  const StageTraits& traits() const { return traits_; }
  const std::string& stage() const { return traits_.name; }

  virtual torch::nn::Module& module() = 0;

  /// The sample at a global position of the run. Called from the loader's threads.
  virtual Sample sample(int64_t position) const = 0;

  /// What this rank's part of a global batch adds to its counts.
  virtual LossCounts count(const Batch& batch) const { return {.samples = batch.size()}; }

  /// @param micro_batch  on the host; the task moves what it needs to its device
  virtual TaskLoss loss(const Batch& micro_batch, const LossContext& context) = 0;

  /// Called after each update of the weights, on every rank, to keep them within bounds. May call
  /// collectives, and changes the module in the same way on every rank.
  /// @param context  of the step's losses
  virtual void after_update(const LossContext& context) { (void)context; }

  /// Tensors that training changes besides the module's parameters, the same on every rank.
  /// Checkpoints hold them, and resuming copies them back into these tensors.
  virtual NamedTensors state() { return {}; }

  /// Scheduled values worth a column in the log (temperature, KL weight).
  virtual std::vector<Metric> scheduled(int64_t step) const {
    return (void)step, std::vector<Metric>{};
  }

  /// Evaluates the batches in this rank's share, with the EMA weights bound. A batch's samples do
  /// not depend on the share.
  /// @param step  updates made so far
  /// @return      nothing if no sample is usable
  virtual std::optional<EvaluationPart> evaluate(int64_t step, const RankShare& share) = 0;

  /// The score and metrics of the evaluation of all batches. Called on every rank.
  virtual Evaluation summarize(int64_t step, const EvaluationTotals& totals) const = 0;

  /// Generates the groups of images in this rank's share, with the EMA weights bound. A group's
  /// images do not depend on the share.
  virtual ImageGroups sample_images(int64_t step, const RankShare& share) = 0;

  /// Adds what makes a checkpoint self-contained: config, tokenizer, frozen models. Training does
  /// not resume with a tokenizer that differs from the checkpoint's.
  virtual void add_to_checkpoint(CheckpointContent& content) const = 0;

 private:
  StageTraits traits_;
};

}  // namespace dalle
