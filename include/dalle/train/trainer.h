#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "dalle/data/batch_loader.h"
#include "dalle/dist/distributed_config.h"
#include "dalle/dist/process_group.h"
#include "dalle/optim/flat_parameters.h"
#include "dalle/optim/optimizer.h"
#include "dalle/optim/weight_average.h"
#include "dalle/train/checkpoint_writer.h"
#include "dalle/train/gradient_reducer.h"
#include "dalle/train/learning_rate.h"
#include "dalle/train/metric_log.h"
#include "dalle/train/replica_check.h"
#include "dalle/train/run_folder.h"
#include "dalle/train/stop_signal.h"
#include "dalle/train/throughput.h"
#include "dalle/train/train_config.h"
#include "dalle/train/train_task.h"
#include "dalle/train/trainer_state.h"

namespace dalle {

enum class TrainOutcome { kFinished, kStopped };

struct TrainerOptions {
  /// The ranks that train together; of one by default.
  std::shared_ptr<ProcessGroup> group = std::make_shared<ProcessGroup>();
  DistributedConfig distributed = {};
  c10::Device device = c10::kCPU;
  int64_t data_workers = 2;
  int64_t prefetch = 4;
  /// In FLOP/s, what utilisation is reported against; 0: measured.
  double matrix_rate = 0;
};

/// Throws if so many ranks cannot share the batches of a stage.
/// @throws dalle::Error naming the key to change
void check_ranks(const std::string& stage, const TrainConfig& config,
                 const DistributedConfig& distributed, int64_t ranks);

/// What a rank may ask for, and all ranks then do.
struct Wishes {
  bool stop = false;
  bool save = false;
  bool abandon = false;  ///< the step, of which a rank has left out micro-batches to stop sooner
  bool report = false;   ///< that its weights have changed by themselves
};

/// Trains one stage: a loop of step, log, evaluate, save. It goes on from the newest checkpoint
/// that verifies, and a run that was interrupted, however often, ends with the same bits as one
/// that was not.
///
/// Everything random is a function of the seed and the step or sample (core/seeds.h), so the
/// weights, the optimizer's moments, the average and the counters of TrainerState are all there is
/// to save.
///
/// Several ranks each compute a part of every global batch and add up their gradients; all of them
/// then make the same update, or each updates its shard of the weights. The first rank reads and
/// writes checkpoints, evaluates, logs and draws; the others wait for it.
class Trainer {
 public:
  /// The task, config and run folder must outlive the trainer.
  Trainer(TrainTask& task, const TrainConfig& config, const RunPaths& run,
          const TrainerOptions& options);

  /// Trains until config.steps are made or `stop` is requested on any rank, and saves a checkpoint
  /// of the last step either way. A stop ends the micro-batch that is under way, and breaks off a
  /// step that has more of them, an evaluation or a drawing, which are done again when the training
  /// goes on.
  /// @throws dalle::Error after too many non-finite steps in a row, with too many bad samples, or
  /// if a checkpoint
  ///         cannot be written
  TrainOutcome run(const StopSignal& stop);

  /// Steps made so far; those of a finished training are config.steps.
  int64_t step() const { return state_.step; }

 private:
  void restore(const std::optional<CheckpointContent>& content);
  at::Tensor gathered(const std::vector<FlatState*>& states);
  std::unique_ptr<BatchLoader> make_loader(const TrainerOptions& options);
  void train_step(const StopSignal& stop);
  BatchTotals count(const Batch& batch);
  bool must_stop(const StopSignal& stop) const;
  bool is_any_rank_stopped(const StopSignal& stop);
  bool guards_shards() const;
  void report_change(const std::string& changed);
  bool wants_to_save() const;
  void record(const std::vector<Metric>& losses, double norm);
  void skip(const Metric* bad_loss);
  void finish_step(const StopSignal& stop);
  bool on_first_rank(Phase phase, const StopSignal& stop,
                     const std::function<void(const CheckStop&)>& work);
  void log();
  std::vector<Metric> timings();
  void evaluate(const StopSignal& stop);
  void show_pictures(const StopSignal& stop);
  std::vector<NamedPicture> sample_images(const at::Tensor& average, const CheckStop& check_stop);
  void save();
  bool due(int64_t every) const { return state_.step % every == 0 || state_.step == config_.steps; }

  TrainTask& task_;
  const TrainConfig& config_;
  std::shared_ptr<ProcessGroup> group_;
  DistributedConfig distributed_;
  FlatParameters parameters_;
  std::unique_ptr<GradientReducer> reducer_;
  Optimizer optimizer_;
  WeightAverage average_;
  PlateauCuts plateau_;
  WeightSeal seal_;
  CheckpointWriter checkpoints_;
  TrainerState state_;
  bool unsaved_ = false;  ///< the state is another than the newest checkpoint's
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  double save_pause_s_ = 0;         ///< that training waited for saving, since the last log
  Wishes wishes_;                   ///< agreed on by all ranks
  std::filesystem::path pictures_;  ///< folder for show_pictures()
  Throughput throughput_;
  std::unique_ptr<MetricLog> log_;
  std::unique_ptr<BatchLoader> loader_;
};

}  // namespace dalle
