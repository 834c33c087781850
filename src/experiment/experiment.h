#pragma once

#include <memory>
#include <optional>

#include <c10/core/Device.h>

#include "core/stop_signal.h"
#include "experiment/config/experiment_config.h"
#include "experiment/config/stages.h"
#include "train/run_folder.h"
#include "train/trainer.h"

namespace dalle {

struct ExperimentOptions {
  std::shared_ptr<ProcessGroup> group = std::make_shared<ProcessGroup>();  ///< who trains together
  c10::Device device = c10::kCPU;
  std::optional<Stage> only;  ///< one stage instead of all of them
  /// Resume although the config or the data differ from those that the run started with.
  bool allow_config_change = false;
};

/// Checks that so many ranks can share the batches of the stages that are still to be trained.
/// @param run  whose finished stages are left out; nothing: all are still to be trained
/// @throws dalle::Error naming the key to change
void check_ranks(const ExperimentConfig& config, const std::optional<RunPaths>& run,
                 std::optional<Stage> only, int64_t ranks);

/// Runs the stages of an experiment in order. A finished stage is skipped and an interrupted one
/// resumes from what the run folder holds.
///
/// Several ranks call this together, on a run folder that all of them can read. Rank 0 must hold it
/// (RunFolder).
///
/// @throws dalle::Error if the config differs from the one that the run started with (the message
///         lists the keys), if the data set has other images than then, if the images lack captions
///         for a stage that needs them, if a stage lacks what an earlier one makes, or as
///         Trainer::run() does
TrainOutcome run_experiment(const ExperimentConfig& config, const RunPaths& run,
                            const ExperimentOptions& options, const StopSignal& stop);

}  // namespace dalle
