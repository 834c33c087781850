#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config_error.h"
#include "core/config/config_schema.h"
#include "core/config/config_value.h"

namespace dalle {

/// The result of reading a YAML file and overrides.
struct ConfigReading {
  /// Maps of the keys that were set to accepted values: the file's first, then one per override.
  std::vector<ConfigValue> layers;
  std::vector<ConfigProblem> problems;
  /// Where each key was set last; keys at their defaults are not in it.
  std::map<std::string, std::string, std::less<>> places;
  /// False when there was no YAML to read: a missing file, or a syntax error.
  bool is_readable = true;
  /// True when there was nothing but comments: every key keeps its default.
  bool is_empty = false;

  /// The key's place, or empty.
  std::string place_of(std::string_view key) const;

  /// @throws ConfigError if there are problems
  void throw_problems() const;
};

/// Reads a YAML text, then `a.b.c=value` overrides, against the schema. The right side of an
/// override is YAML; for a key that holds text it is literal text, from the `=` to the end.
///
/// @param source  names the text in messages
ConfigReading read_config_text(const ConfigSchema& schema, const std::string& text,
                               std::string_view source,
                               std::span<const std::string> overrides = {});

/// Same, of a file.
ConfigReading read_config_file(const ConfigSchema& schema, const std::filesystem::path& path,
                               std::span<const std::string> overrides = {});

}  // namespace dalle
