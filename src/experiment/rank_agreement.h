#pragma once

#include "dist/process_group.h"
#include "experiment/config/experiment_config.h"
#include "experiment/stages/experiment_data.h"
#include "train/run_folder.h"

namespace dalle {

/// Checks that all ranks see the run folder of rank 0 and have the same program, config and data
/// set. Each may keep the data under a path of its own.
/// @throws dalle::Error, on every rank, naming a rank and what differs
void check_rank_agreement(ProcessGroup& group, const ExperimentConfig& config, const RunPaths& run,
                          const ExperimentData& data);

}  // namespace dalle
