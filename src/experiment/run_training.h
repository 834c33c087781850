#pragma once

#include <filesystem>

#include "experiment/experiment.h"
#include "experiment/experiment_config.h"

namespace dalle {

enum class FolderUse {
  kResume,   ///< go on from what the run folder holds, if anything
  kRestart,  ///< rename the folder and start over
};

/// How run_training() ended.
struct TrainingEnd {
  TrainOutcome outcome = TrainOutcome::kFinished;
  int signal = 0;  ///< that a stopped run was asked to stop with
};

/// The run folder of an experiment: the given one or, if that is empty, runs/<name>.
std::filesystem::path run_folder_of(const ExperimentConfig& config,
                                    const std::filesystem::path& given);

/// Opens the run folder, first on rank 0 and then on the others, and runs the experiment. Its log
/// goes to the console of rank 0 and to the folder, and still does so after the function has
/// returned or thrown. All ranks call this together. Signals request a stop: see StopSignal.
///
/// @param options  from join_ranks()
/// @throws dalle::Error if the folder cannot be opened or moved, or as run_experiment() does
TrainingEnd run_training(const ExperimentConfig& config, const std::filesystem::path& folder,
                         FolderUse use, const ExperimentOptions& options);

}  // namespace dalle
