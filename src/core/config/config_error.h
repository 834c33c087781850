#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace dalle {

/// One thing that is wrong with a config.
struct ConfigProblem {
  std::string place = "";    ///< `file:line:column` or `--set key=value`; empty where unknown
  std::string key = "";      ///< dotted path; empty for the whole file
  std::string message = "";  ///< what was found, what was expected

  /// `place: key: message` on one line, without empty parts; control characters, which files and
  /// keys may contain, become spaces
  std::string text() const;

  bool operator==(const ConfigProblem&) const = default;
};

/// Everything that is wrong with a config, one problem per line.
class ConfigError : public Error {
 public:
  /// @param problems  at least one
  explicit ConfigError(std::vector<ConfigProblem> problems);

  const std::vector<ConfigProblem>& problems() const { return problems_; }

 private:
  std::vector<ConfigProblem> problems_;
};

}  // namespace dalle
