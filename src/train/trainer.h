#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "checkpoint/checkpoint_writer.h"
#include "core/stop_signal.h"
#include "data/batch_loader.h"
#include "dist/distributed_config.h"
#include "dist/process_group.h"
#include "dist/stop_condition.h"
#include "train/learning_rate.h"
#include "train/run_folder.h"
#include "train/step_losses.h"
#include "train/train_config.h"
#include "train/train_task.h"
#include "train/training_counters.h"
#include "train/training_report.h"
#include "train/training_state.h"

namespace dalle {

enum class TrainOutcome { kFinished, kStopped };

struct TrainerOptions {
  /// The ranks that train together; a single rank by default.
  std::shared_ptr<ProcessGroup> group = std::make_shared<ProcessGroup>();
  DistributedConfig distributed = {};
  c10::Device device = c10::kCPU;
  int64_t data_workers = 2;
  int64_t prefetch = 4;
  double matmul_flops = 0;  ///< of this rank: measure_matmul_flops(); must be more than 0
};

/// Throws if a stage's batches cannot be divided over that many ranks.
/// @throws dalle::Error naming the key to change
void check_ranks(const std::string& stage, const TrainConfig& config,
                 const DistributedConfig& distributed, int64_t ranks);

/// Trains one stage: a loop of step, log, evaluate, save. It resumes from the newest intact
/// checkpoint, and a run that was interrupted, however often, ends with the same bits as one that
/// was not.
///
/// Everything random is a function of the seed and the step or sample (core/seeds.h), so
/// TrainingState and TrainingCounters are all there is to save.
///
/// Several ranks each compute a part of every global batch and add up their gradients; all of them
/// then make the same update, or each updates its shard of the weights. They divide evaluation
/// batches and sample images as well. Rank 0 reads checkpoints and writes the reports.
class Trainer {
 public:
  /// The task, config and run folder must outlive the trainer.
  Trainer(TrainTask& task, const TrainConfig& config, const RunPaths& run,
          const TrainerOptions& options);

  /// Trains until config.steps steps are done or `stop` is requested on any rank, and saves a
  /// checkpoint of the last step either way. A stop takes effect after the current micro-batch. An
  /// unfinished step, evaluation or set of sample images is discarded, and the resumed run does it
  /// again.
  /// @throws dalle::Error after too many non-finite steps in a row, with too many invalid samples,
  ///         or if a checkpoint cannot be written
  TrainOutcome run(const StopSignal& stop);

  /// Steps done so far; config.steps once training is finished.
  int64_t step() const { return counters_.step; }

 private:
  void restore(const std::filesystem::path& checkpoints);
  void train_step(const StopCondition& stop);
  LossCounts count_over_ranks(const Batch& batch);
  double learning_rate(int64_t step) const;
  void vote(StepLosses& losses, bool is_cut_short, const StopCondition& stop);
  bool is_save_time() const;
  void record(const std::vector<Metric>& losses, double gradient_norm);
  void skip(const StepLosses& losses);
  void finish_step(const StopCondition& stop);
  void log();
  void evaluate(const StopCondition& stop);
  void reduce_on_plateau();
  void sample_images(const StopCondition& stop);
  void save();
  bool due(int64_t every) const {
    return counters_.step % every == 0 || counters_.step == config_.steps;
  }

  TrainTask& task_;
  const TrainConfig& config_;
  std::shared_ptr<ProcessGroup> group_;
  bool bitwise_;
  TrainingState state_;
  TrainingCounters counters_;
  CheckpointWriter checkpoints_;
  bool unsaved_ = false;  ///< the state differs from the newest checkpoint's
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  StepVotes votes_;  ///< agreed on by all ranks
  std::unique_ptr<TrainingReport> report_;
  std::unique_ptr<BatchLoader> loader_;
};

}  // namespace dalle
