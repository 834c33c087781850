#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "core/machine.h"
#include "data/batch_loader.h"
#include "data/image/rgb_image.h"
#include "dist/process_group.h"
#include "metrics/metric_log.h"
#include "metrics/throughput.h"
#include "nn/loss_counts.h"
#include "parallel/gradient_reducer.h"
#include "train/run_folder.h"
#include "train/train_task.h"
#include "train/training_counters.h"

namespace dalle {

/// Measures a step, from its construction on.
class StepClock {
 public:
  /// Both arguments must outlive it.
  StepClock(const BatchLoader& loader, const ProcessGroup& group);

  Throughput::Step measured(const LossCounts& counts) const;

 private:
  const BatchLoader& loader_;
  const ProcessGroup& group_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double data_wait_s_;  ///< before the step, like the next one
  double rank_wait_s_;
};

/// Reports the progress of training: losses, throughput and sample images, on the console, in
/// metrics.jsonl and in TensorBoard. All ranks measure; rank 0 writes.
class TrainingReport {
 public:
  /// A collective.
  /// @param group         must outlive it
  /// @param position      of the step that training resumes from
  /// @param matmul_flops  of this rank, in FLOP/s
  TrainingReport(const StageTraits& stage, const RunPaths& run, ProcessGroup& group,
                 c10::Device device, const MetricPosition& position, double matmul_flops);

  void add_step(const Throughput::Step& step) { throughput_.add(step); }

  /// Time that training waited for a checkpoint.
  void add_save_pause(double seconds) { save_pause_s_ += seconds; }

  /// Writes the mean losses and the timings since the last call. A collective.
  /// @param scheduled  learning rate and other values of the last step
  void log(const TrainingCounters& counters, const std::vector<Metric>& scheduled,
           const GradientReducer::Communication& communication);

  void log_evaluation(int64_t step, const std::vector<Metric>& metrics, double seconds);

  /// Writes sample images into the folder of samples, and into TensorBoard.
  void show(int64_t step, const RgbImage& grid);

  /// Flushes the metrics, so that a run resumed from a checkpoint made now finds its lines.
  /// @return how many lines there are of the step
  int64_t sync(int64_t step) { return log_->sync(step); }

 private:
  std::vector<Metric> timings(const GradientReducer::Communication& communication);
  void add_cpu_wait(std::vector<Metric>& timings);

  ProcessGroup& group_;
  c10::Device device_;
  Throughput throughput_;
  double save_pause_s_ = 0;           ///< since the last log
  double cpu_wait_s_ = cpu_wait_s();  ///< at the last log
  std::chrono::steady_clock::time_point logged_ = std::chrono::steady_clock::now();
  bool reported_cpu_wait_ = false;
  std::filesystem::path samples_;
  std::string sample_name_;
  std::unique_ptr<MetricLog> log_;  ///< rank 0's
};

}  // namespace dalle
