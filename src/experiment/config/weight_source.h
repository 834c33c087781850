#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/config/config_io.h"
#include "core/config/config_reader.h"
#include "experiment/config/experiment_config.h"
#include "experiment/config/stages.h"

namespace dalle {

/// What an experiment needs to know of a model whose weights it begins with, before it loads them.
struct WeightSource {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< SHA-256 of the checkpoint's manifest: names these weights
  int64_t step = 0;
  Stage stage = Stage::kDalle;  ///< kDalle: tokenizer, dVAE and transformer; kDvae: a dVAE alone
  std::string tokenizer_hash;   ///< SHA-256 of the tokenizer; empty: it has none
  ExperimentConfig config;      ///< with which it was trained
};

/// Finds what from.checkpoint names. Verifies the manifest and the config, not yet the weights.
///
/// @param path  a checkpoint of the dalle or dvae stage, or the file `latest` or `best` that names
///              one; or a run, its folder of checkpoints or of one of these stages. For a dalle
///              stage, which must be finished, that is its newest valid checkpoint; for a dvae
///              stage alone, what find_trained_dvae() selects
/// @throws dalle::Error if there is none, naming what was found instead
WeightSource find_weight_source(const std::filesystem::path& path);

/// The keys in which a config differs from the source's so that its weights do not fit or would
/// mean something else: sizes, vocabularies, image size, attention masks; old_value is the
/// source's. Keys that matter only to training are left out.
std::vector<ConfigChange> mismatches(const WeightSource& source, const ExperimentConfig& config);

/// Records in `config.from` what find_weight_source() says, and the same of the contrastive model
/// that from.clip_checkpoint names. What does not fit is added to the problems of the reading, all
/// of it at once. What a file recorded, with its SHA-256, stays as it is if it is gone or has been
/// replaced: its run has a copy.
/// @return false if there is no such source, which is a problem too
bool take_weight_source(ConfigReading& reading, ExperimentConfig& config);

/// What each stage of an experiment begins with, for --dry-run; empty without from.checkpoint.
std::string source_report(const ExperimentConfig& config);

}  // namespace dalle
