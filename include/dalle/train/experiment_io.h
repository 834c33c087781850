#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "dalle/train/experiment_config.h"

namespace dalle {

/// A key whose value does not fit the others.
struct ConfigConflict {
  std::string key;                         ///< dotted path
  std::string message;                     ///< what was found, what was expected
  std::vector<std::string> involves = {};  ///< the other keys that decide
};

/// What no single key can show: keys that contradict one another, and values that a range cannot
/// rule out. Looks at the config alone, never at the disk.
///
/// @return  every conflict; empty if the experiment can be run
std::vector<ConfigConflict> validate(const ExperimentConfig& config);

/// Loads an experiment, applies `a.b.c=value` overrides in order and validates the result.
///
/// @throws ConfigError with every problem of the file, the overrides and their combination, one a
/// line as `file:line:column: key: what was found, what was expected`. A key that is at its default
/// has no place and stands alone. Conflicts of keys that have problems of their own are left out.
ExperimentConfig load_experiment(const std::filesystem::path& path,
                                 std::span<const std::string> overrides = {});

/// Same, from text; `source` stands for the file's name in messages.
ExperimentConfig load_experiment_text(const std::string& text, std::string_view source,
                                      std::span<const std::string> overrides = {});

}  // namespace dalle
