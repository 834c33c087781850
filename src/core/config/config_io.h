#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config_error.h"
#include "core/config/config_reader.h"
#include "core/config/config_schema.h"
#include "core/config/config_value.h"

namespace dalle {

/// Sets the keys of `config` that were read, in the order in which they were given.
template <ConfigStruct T>
void apply(const ConfigReading& reading, T& config) {
  for (const ConfigValue& layer : reading.layers) assign_config_value(layer, config);
}

/// Loads a config struct from YAML; keys that it does not name keep their defaults.
///
/// Reading is strict. Unknown and repeated keys, numbers such as 010 or 1_000, words such as `yes`
/// for true, values out of range, unknown names of enums and merge keys are errors, and all errors
/// of the text and of the overrides are reported together.
///
/// @param source     the name of the file that the text is from, for messages
/// @param overrides  `a.b.c=value` each, applied after the text; the right side is YAML, or
///                   literal text where the key holds text
/// @throws ConfigError with one line per problem, `source:line:column: key: what was found, what
///         was expected`; for an override, `--set a.b.c=value` replaces the source
template <ConfigStruct T>
T load_config_text(const std::string& text, std::string_view source,
                   std::span<const std::string> overrides = {}) {
  const ConfigReading reading = read_config_text(config_schema<T>(), text, source, overrides);
  reading.throw_problems();
  T config;
  apply(reading, config);
  return config;
}

/// The whole config as YAML, every key in the order of its fields. It loads to an equal config,
/// which dumps to the same bytes.
template <ConfigStruct T>
std::string dump_config(const T& config) {
  return dump_yaml(to_config_value(config));
}

/// A key whose value differs between two configs; the values as YAML on one line.
struct ConfigChange {
  std::string key;
  std::string old_value;
  std::string new_value;

  bool operator==(const ConfigChange&) const = default;
};

/// The keys that differ between two maps of the same struct, in the order of its fields.
///
/// @param ignored  dotted keys; each also stands for all keys below it
std::vector<ConfigChange> diff_values(const ConfigValue& old_config, const ConfigValue& new_config,
                                      std::span<const std::string_view> ignored = {});

template <ConfigStruct T>
std::vector<ConfigChange> diff_configs(const T& old_config, const T& new_config,
                                       std::span<const std::string_view> ignored = {}) {
  return diff_values(to_config_value(old_config), to_config_value(new_config), ignored);
}

}  // namespace dalle
