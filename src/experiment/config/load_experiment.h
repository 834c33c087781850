#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiment/config/experiment_config.h"

namespace dalle {

/// Loads an experiment, applies `a.b.c=value` overrides in order and validates the result.
///
/// What dvae.checkpoint and `from` name is found and recorded; if its SHA-256 is already recorded,
/// it need not exist.
///
/// @throws ConfigError with every problem of the file, the overrides and their combination, one per
///         line as `file:line:column: key: what was found, what was expected`. A key at its default
///         has the position of the key that it conflicts with, or only the file. Conflicts of keys
///         that have problems of their own are left out. A file without any key is an error too:
///         more likely, writing it failed than that the paper's model is wanted.
ExperimentConfig load_experiment(const std::filesystem::path& path,
                                 std::span<const std::string> overrides = {},
                                 ConfigUse use = ConfigUse::kTrain);

/// Same, from text; `source` stands for the file's name in messages.
ExperimentConfig load_experiment_text(const std::string& text, std::string_view source,
                                      std::span<const std::string> overrides = {},
                                      ConfigUse use = ConfigUse::kTrain);

/// Where the config of a training comes from.
struct TrainingFiles {
  std::string config = {};                         ///< a YAML file; may be empty
  std::optional<std::string> text = std::nullopt;  ///< of that file, if it can be read only once
  std::string from = {};                           ///< sets from.checkpoint; empty: nothing does
};

/// Loads the experiment of a new or resumed training. Without a YAML file, the config is that of
/// `from`, a run or a checkpoint, except that the name has "-tuned" at the end, and that it says
/// nothing of where that model itself came from.
/// @throws ConfigError as load_experiment() does
/// @throws dalle::Error as find_weight_source() does
ExperimentConfig load_training(const TrainingFiles& files, std::vector<std::string> overrides,
                               ConfigUse use = ConfigUse::kTrain);

}  // namespace dalle
