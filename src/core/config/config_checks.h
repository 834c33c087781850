#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/fields.h"

namespace dalle {

/// A key whose value is wrong although it has the right type and range.
struct ConfigConflict {
  std::string key;                         ///< dotted path
  std::string message;                     ///< what was found, what was expected
  std::vector<std::string> involves = {};  ///< other keys that decide
};

/// Collects what the range of a single key cannot express: keys that contradict one another, and
/// values such as multiples. A config struct states its own conditions, by the names of its fields,
/// in
///
///     void validate(const ConfigChecks& checks) const {
///       checks.require(low <= high, "low", {"high"}, "found {}, expected at most {}, which is {}",
///                      low, checks.path("high"), high);
///     }
///
/// and calls `member.validate(checks.of("member"))` for the structs in it.
class ConfigChecks {
 public:
  explicit ConfigChecks(std::vector<ConfigConflict>& conflicts, std::string prefix = "")
      : conflicts_(conflicts), prefix_(std::move(prefix)) {}

  /// For a member that is a struct; adds to the same conflicts.
  ConfigChecks of(std::string_view member) const { return ConfigChecks(conflicts_, path(member)); }

  /// The dotted path of a key of the struct.
  std::string path(std::string_view key) const { return join_key(prefix_, key); }

  /// Notes a conflict unless `holds`.
  template <class... Args>
  void require(bool holds, std::string_view key, const std::vector<std::string>& involves,
               fmt::format_string<Args...> message, Args&&... args) const {
    if (holds) return;
    ConfigConflict conflict{path(key), fmt::format(message, std::forward<Args>(args)...)};
    for (const std::string& other : involves) conflict.involves.push_back(path(other));
    conflicts_.push_back(std::move(conflict));
  }

  template <class T>
  void require_distinct(const std::vector<T>& values, std::string_view key) const {
    require(std::set<T>(values.begin(), values.end()).size() == values.size(), key, {},
            "found a name twice, expected each at most once");
  }

 private:
  std::vector<ConfigConflict>& conflicts_;
  std::string prefix_;
};

}  // namespace dalle
