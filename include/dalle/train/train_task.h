#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dalle/data/batch.h"
#include "dalle/data/picture.h"
#include "dalle/train/checkpoint.h"
#include "dalle/train/metric_log.h"
#include "dalle/train/stop_signal.h"

namespace torch::nn {
class Module;
}

namespace dalle {

/// What the losses of one step are divided by, counted over its whole global batch: how the batch
/// is cut into micro-batches then changes nothing.
struct BatchTotals {
  int64_t samples = 0;
  int64_t text_tokens = 0;  ///< caption tokens that are predicted; 0 where the stage has no text
};

/// A micro-batch's share of the global batch's loss: shares add up to it.
struct TaskLoss {
  at::Tensor total;                                       ///< [] float32, with gradient
  std::vector<std::pair<std::string, at::Tensor>> parts;  ///< [] each, to be logged beside it
};

/// What an evaluation found, with the averaged weights bound. Without metrics there was nothing to
/// evaluate on, and the score counts for nothing.
struct Evaluation {
  double score = 0;  ///< lower is better; the best checkpoint is kept
  std::vector<Metric> metrics;
};

struct NamedPicture {
  std::string name;
  Picture picture;
};

/// What one stage trains: a module, its samples, and a loss. The Trainer does the rest, the same
/// for all stages.
class TrainTask {
 public:
  virtual ~TrainTask() = default;

  /// "dvae", "dalle": names the checkpoints' folder and the metrics.
  virtual std::string stage() const = 0;

  virtual torch::nn::Module& module() = 0;

  /// Whether a parameter is the matrix or the kernels of a hidden layer: what Muon is for.
  virtual bool is_hidden_matrix(const std::string& name) const = 0;

  /// The sample at a global position of the run. Called from the loader's threads.
  virtual Sample sample(int64_t position) const = 0;

  virtual BatchTotals count(const Batch& batch) const = 0;

  /// @param micro_batch  on the host; the task moves what it needs to its device
  /// @param totals       of the global batch that the micro-batch is a part of
  /// @param step         update about to be made, 0-based: what schedules and noise depend on
  virtual TaskLoss loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) = 0;

  /// Scheduled values worth a column in the log (temperature, KL weight).
  virtual std::vector<Metric> scheduled(int64_t step) const {
    return (void)step, std::vector<Metric>{};
  }

  /// @param step        updates made so far
  /// @param check_stop  called between batches; what it throws is let through
  virtual Evaluation evaluate(int64_t step, const CheckStop& check_stop) = 0;

  /// Updates between two calls of pictures().
  virtual int64_t picture_every() const = 0;

  /// The config key that picture_every() is the value of, for messages.
  virtual std::string picture_key() const { return stage() + ".train.eval_every"; }

  /// Pictures that show how far the training is, made with the averaged weights.
  virtual std::vector<NamedPicture> pictures(int64_t step, const CheckStop& check_stop) = 0;

  /// Adds what makes a checkpoint self-contained: config, tokenizer, frozen models.
  virtual void add_to_checkpoint(CheckpointContent& content) const = 0;

  /// Throws if a checkpoint was made with other frozen parts than this run's.
  virtual void check_checkpoint(const CheckpointContent& content) const { (void)content; }

  /// Useful FLOPs of training on one sample, forward and backward.
  virtual double flops_per_sample() const = 0;
};

}  // namespace dalle
