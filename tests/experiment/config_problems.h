#pragma once

#include <string>
#include <vector>

#include "core/config/config_error.h"
#include "experiment/config/load_experiment.h"

namespace dalle {

/// What is wrong with the text of a config file x.yaml and overrides, a line each.
inline std::vector<std::string> problems_of(const std::string& text,
                                            const std::vector<std::string>& overrides = {}) {
  try {
    load_experiment_text(text, "x.yaml", overrides);
  } catch (const ConfigError& error) {
    std::vector<std::string> lines;
    for (const ConfigProblem& problem : error.problems()) lines.push_back(problem.text());
    return lines;
  }
  return {};
}

}  // namespace dalle
