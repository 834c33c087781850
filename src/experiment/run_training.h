#pragma once

#include <filesystem>

#include "experiment/config/experiment_config.h"
#include "experiment/experiment.h"

namespace dalle {

enum class FolderUse {
  kResume,   ///< resume from what the run folder contains, if anything
  kRestart,  ///< rename the folder and start over
};

/// How run_training() ended.
struct TrainingEnd {
  TrainOutcome outcome = TrainOutcome::kFinished;
  int signal = 0;  ///< the one that stopped the run, if it was stopped
};

/// The run folder of an experiment: the given one or, if that is empty, runs/<name>.
std::filesystem::path run_folder_of(const ExperimentConfig& config,
                                    const std::filesystem::path& given);

/// Opens the run folder, first on rank 0 and then on the others, and runs the experiment. Its log
/// goes to the console of rank 0 and to the folder, even after the function has returned or thrown.
/// All ranks must call this together. Signals request a stop: see StopSignal.
///
/// @param options  from join_ranks()
/// @throws dalle::Error if the config does not have the only stage that is to run, if the folder
///         cannot be opened or moved or is that of `from`, or as run_experiment() does
TrainingEnd run_training(const ExperimentConfig& config, const std::filesystem::path& folder,
                         FolderUse use, const ExperimentOptions& options);

}  // namespace dalle
