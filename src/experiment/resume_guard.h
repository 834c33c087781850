#pragma once

#include <optional>
#include <set>

#include "experiment/config/experiment_config.h"
#include "experiment/config/stages.h"
#include "experiment/stages/experiment_data.h"
#include "train/run_folder.h"

namespace dalle {

/// What a run folder says about the run that is resumed.
struct PreviousRun {
  std::set<Stage> started;                 ///< stages that it holds something of
  std::optional<ExperimentConfig> config;  ///< as it was last; nothing if no stage has started
};

/// @throws ConfigError if the run's config cannot be read
PreviousRun read_previous_run(const RunPaths& run);

/// Refuses to resume with another config. Keys of stages that have not started may change, and
/// those whose fields say so (Field::may_change).
/// @param allowed  warn of the changes instead; but another dVAE than the one whose codes the
///                 transformer learns, and other weights to begin with, are always refused
/// @throws dalle::Error listing the keys
void check_config_change(const PreviousRun& previous, const ExperimentConfig& config,
                         const RunPaths& run, bool allowed);

/// Refuses to resume with other images: their number and names decide in which order they are seen,
/// and which of them validate. Then records the present ones in the run folder.
/// @param allowed  warn of the change instead
/// @throws dalle::Error with both descriptions
void check_data_change(const PreviousRun& previous, const ExperimentConfig& config,
                       const ExperimentData& data, const RunPaths& run, bool allowed);

}  // namespace dalle
