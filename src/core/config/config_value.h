#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace dalle {

struct ConfigEntry;

/// A config, or a part of one, as plain data: null, true or false, a number, text, a list or a map.
///
/// It stands between a config struct and its text: loading checks YAML against a ConfigSchema and
/// leaves a ConfigValue, which is then assigned to the struct; dumping goes the other way. Enums
/// are text here, by their names.
struct ConfigValue {
  using List = std::vector<ConfigValue>;
  using Map = std::vector<ConfigEntry>;  ///< in the order of the struct's fields, or of the file

  std::variant<std::monostate, bool, int64_t, double, std::string, List, Map> data;

  bool operator==(const ConfigValue& other) const;
};

struct ConfigEntry {
  std::string key;
  ConfigValue value;

  bool operator==(const ConfigEntry&) const = default;
};

/// Block YAML of a map, one key a line, lists in brackets unless they hold maps.
///
/// Numbers have the fewest digits that read back as the same value, doubles always with a point;
/// text is quoted where it could be read as something else. Equal values give equal bytes.
std::string dump_yaml(const ConfigValue& map);

/// The value on one line, in YAML's flow style: `[row, column]`, `{from: 1.0, to: 0.5}`.
std::string dump_inline(const ConfigValue& value);

}  // namespace dalle
