#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "experiment/config/experiment_config.h"

namespace dalle {

/// Where a dVAE may be read from, in order of preference: the checkpoint at `path`, or those of the
/// dvae stage, newest first, but before them the best one if that is wanted.
///
/// @param path  a checkpoint folder, or the file `latest` or `best` that names one; or a run, its
///              folder `checkpoints` or `checkpoints/dvae`
/// @return      empty if there is none
std::vector<std::filesystem::path> dvae_checkpoints(const std::filesystem::path& path,
                                                    DvaeCheckpoint which);

/// read_first_valid() of what dvae_checkpoints() returns.
/// @throws dalle::Error that names what is wrong with the last one if none verifies
CheckpointContent read_dvae_checkpoint(std::span<const std::filesystem::path> checkpoints,
                                       const std::set<std::string>& only,
                                       const std::set<std::string>& later = {});

/// What an experiment needs to know of a trained dVAE before it loads the weights.
struct DvaeSource {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< SHA-256 of the file of its weights
  DiscreteVaeConfig model;
};

/// Finds the dVAE that dvae.checkpoint names, and verifies it.
///
/// @param path   as for dvae_checkpoints(); a training that is named as a whole must be finished
/// @param which  of the checkpoints of a training
/// @throws dalle::Error if there is none, naming what was found instead
DvaeSource find_trained_dvae(const std::filesystem::path& path, DvaeCheckpoint which);

}  // namespace dalle
