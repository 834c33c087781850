#include "core/config/config_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/ranges.h>

#include "core/ascii.h"
#include "core/config/yaml_tree.h"
#include "core/files.h"
#include "core/nearest_name.h"
#include "core/number_range.h"
#include "core/strict_number.h"
#include "core/utf8.h"

namespace dalle {
namespace {

constexpr size_t kMaxQuotedText = 60;  // longer values are truncated in messages

/// The key of a name, present or former; nullptr if there is none.
const ConfigKey* find_name(const ConfigSchema& schema, std::string_view name) {
  const auto known = std::ranges::find_if(schema.keys, [&](const ConfigKey& key) {
    return key.name == name || (!key.formerly.empty() && key.formerly == name);
  });
  return known == schema.keys.end() ? nullptr : &*known;
}

std::string expected(const ConfigSchema& schema) {
  std::string text(words_of(schema.type).expected);
  if (schema.is_number()) text += range_phrase(schema.min, schema.max);
  if (schema.type == ConfigType::kChoice)
    text += fmt::format("{}", fmt::join(schema.choices, ", "));
  return text + (schema.is_nullable ? " or null" : "");
}

std::string found(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      break;
  }
  std::string text = node.text;
  if (text.size() > kMaxQuotedText) text = std::string(utf8_prefix(text, kMaxQuotedText)) + "...";
  return node.is_quoted ? "the text \"" + text + "\"" : text;
}

/// Checks a YAML tree against a schema. Continues after a problem; invalid parts are left out of
/// the value.
class Reader {
 public:
  /// @param source     of the whole text, in messages
  /// @param has_lines  whether messages add line and column to the source
  Reader(const ConfigSchema& root, std::string_view source, bool has_lines, ConfigReading& reading)
      : source_(source), has_lines_(has_lines), reading_(reading) {
    walk_keys(root, "", [&](const std::string& path, const ConfigKey&) {
      paths_.push_back(path);
      return true;
    });
  }

  void report(YamlPlace place, const std::string& key, std::string message) {
    reading_.problems.push_back({place_text(place), key, std::move(message)});
  }

  /// Suggests the key that an unknown one most likely meant: a sibling, else a key of that name
  /// elsewhere, else one with a similar path.
  void report_unknown(YamlPlace place, const std::string& path) {
    const auto last_name = [](const std::string& key) { return key.substr(key.rfind('.') + 1); };
    const auto parent = [](const std::string& key) {
      const size_t dot = key.rfind('.');
      return dot == key.npos ? "" : key.substr(0, dot);
    };
    std::vector<std::string> siblings;
    std::string namesake;
    for (const std::string& known : paths_) {
      if (parent(known) == parent(path)) siblings.push_back(last_name(known));
      const bool is_namesake = last_name(known) == last_name(path);
      if (is_namesake &&
          (namesake.empty() || edit_distance(known, path) < edit_distance(namesake, path)))
        namesake = known;
    }
    const std::string sibling = nearest_name(last_name(path), siblings);
    std::string nearest = sibling.empty() ? namesake : join_key(parent(path), sibling);
    if (nearest.empty()) nearest = nearest_name(path, paths_);
    if (!nearest.empty())
      report(place, path, "unknown key; the nearest is " + nearest);
    else
      report(place, path,
             fmt::format("unknown key, expected one of {}",
                         fmt::join(siblings.empty() ? paths_ : siblings, ", ")));
  }

  std::optional<ConfigValue> read(const ConfigSchema& schema, const YamlNode& node, YamlPlace place,
                                  const std::string& path) {
    reading_.places[path] = place_text(place);
    if (node.kind == YamlNode::Kind::kNull && schema.is_nullable) return ConfigValue{};
    if (schema.type == ConfigType::kStruct) return read_struct(schema, node, place, path);
    if (schema.type == ConfigType::kList) return read_list(schema, node, place, path);
    if (node.kind == YamlNode::Kind::kScalar) return read_scalar(schema, node, place, path);
    return refuse(schema, node, place, path);
  }

 private:
  /// Reports the key a.b.c with the advice to nest c under "a: b:".
  void report_dotted(const YamlNode& key, const std::string& path) {
    const size_t last_dot = key.text.rfind('.');
    std::string parents = key.text.substr(0, last_dot) + ':';
    for (size_t dot; (dot = parents.find('.')) != parents.npos;) parents.replace(dot, 1, ": ");
    report(key.place, path,
           fmt::format("found a key with dots, expected nested keys; nest {}: under {}",
                       key.text.substr(last_dot + 1), parents));
  }

  std::string place_text(YamlPlace place) const {
    return has_lines_ && place.line > 0 ? fmt::format("{}:{}:{}", source_, place.line, place.column)
                                        : source_;
  }

  std::nullopt_t refuse(const ConfigSchema& schema, const YamlNode& node, YamlPlace place,
                        const std::string& path, std::string_view advice = "") {
    report(place, path,
           fmt::format("found {}, expected {}{}{}", found(node), expected(schema),
                       advice.empty() ? "" : " ", advice));
    return std::nullopt;
  }

  std::optional<ConfigValue> read_struct(const ConfigSchema& schema, const YamlNode& node,
                                         YamlPlace place, const std::string& path) {
    ConfigValue::Map map;
    if (node.kind == YamlNode::Kind::kNull) return ConfigValue{std::move(map)};  // all defaults
    if (node.kind != YamlNode::Kind::kMap) return refuse(schema, node, place, path);
    std::map<std::string, const YamlNode*> seen;
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const YamlNode& key = node.children[i];
      const YamlNode& child = node.children[i + 1];
      if (key.kind != YamlNode::Kind::kScalar) {
        report(key.place, path, fmt::format("found {} as a key, expected a name", found(key)));
        continue;
      }
      const ConfigKey* known = find_name(schema, key.text);
      const std::string name = known != nullptr ? known->name : key.text;
      const std::string child_path = join_key(path, name);
      if (key.text == "<<" && !key.is_quoted) {
        report(key.place, child_path,
               "found a merge key, expected keys written out; aliases of whole values are fine");
        continue;
      }
      if (const auto [entry, is_new] = seen.emplace(name, &key); !is_new) {
        const YamlNode& first = *entry->second;
        report(key.place, join_key(path, key.text),
               fmt::format("duplicate key; first defined on line {}{}", first.place.line,
                           first.text == key.text ? "" : " as " + first.text));
        continue;
      }
      if (known == nullptr) {
        if (std::ranges::find(paths_, child_path) != paths_.end())
          report_dotted(key, child_path);
        else
          report_unknown(key.place, child_path);
        continue;
      }
      // An empty value has no place of its own.
      const YamlPlace child_place = child.kind == YamlNode::Kind::kNull ? key.place : child.place;
      if (auto value = read(known->schema, child, child_place, child_path))
        map.push_back({name, *std::move(value)});
    }
    return ConfigValue{std::move(map)};
  }

  std::optional<ConfigValue> read_list(const ConfigSchema& schema, const YamlNode& node,
                                       YamlPlace place, const std::string& path) {
    if (node.kind != YamlNode::Kind::kList) return refuse(schema, node, place, path);
    ConfigValue::List list;
    bool is_complete = true;
    for (size_t i = 0; i < node.children.size(); ++i) {
      const YamlNode& item = node.children[i];
      auto value = read(schema.element.front(), item, item.place, fmt::format("{}[{}]", path, i));
      is_complete &= value.has_value();
      if (value) list.push_back(*std::move(value));
    }
    if (!is_complete) return std::nullopt;
    return ConfigValue{std::move(list)};
  }

  std::optional<ConfigValue> read_scalar(const ConfigSchema& schema, const YamlNode& node,
                                         YamlPlace place, const std::string& path) {
    const auto is_in_range = [&](double number) {
      return number >= schema.min && number <= schema.max;
    };
    if (node.is_quoted && (schema.is_number() || schema.type == ConfigType::kBool))
      return refuse(schema, node, place, path, "without quotes");
    switch (schema.type) {
      case ConfigType::kBool:
        if (node.text == "true") return ConfigValue{true};
        if (node.text == "false") return ConfigValue{false};
        break;
      case ConfigType::kInteger:
        if (const auto number = parse_integer(node.text);
            number && is_in_range(static_cast<double>(*number)))
          return ConfigValue{*number};
        break;
      case ConfigType::kNumber:
        if (const auto number = parse_number(node.text); number && is_in_range(*number))
          return ConfigValue{*number};
        break;
      case ConfigType::kText:
        return ConfigValue{node.text};
      case ConfigType::kChoice:
        if (std::ranges::find(schema.choices, node.text) != schema.choices.end())
          return ConfigValue{node.text};
        break;
      case ConfigType::kList:
      case ConfigType::kStruct:
        break;
    }
    return refuse(schema, node, place, path,
                  schema.type == ConfigType::kInteger  ? integer_advice(node.text)
                  : schema.type == ConfigType::kNumber ? number_advice(node.text)
                                                       : "");
  }

  std::string source_;
  bool has_lines_;
  ConfigReading& reading_;
  std::vector<std::string> paths_;
};

/// The schema of a dotted key, nullptr if there is none. Former names in `path` become present
/// ones.
const ConfigSchema* find_key(const ConfigSchema& root, std::string& path) {
  const ConfigSchema* schema = &root;
  std::string_view rest = path;
  std::string present;
  while (true) {
    const size_t dot = rest.find('.');
    const ConfigKey* known = find_name(*schema, rest.substr(0, dot));
    if (known == nullptr) return nullptr;
    schema = &known->schema;
    present = join_key(present, known->name);
    if (dot == rest.npos) break;
    rest.remove_prefix(dot + 1);
  }
  path = present;
  return schema;
}

ConfigValue nest(std::string_view key, ConfigValue value) {
  const size_t dot = key.find('.');
  if (dot != key.npos) value = nest(key.substr(dot + 1), std::move(value));
  ConfigValue::Map map;
  map.push_back({std::string(key.substr(0, dot)), std::move(value)});
  return {std::move(map)};
}

/// Takes the text after the first `=` literally: a path may hold what has a meaning in YAML, such
/// as ` #2` or `{00000..00012}`.
void read_text_override(const std::string& key, const std::string& override_text,
                        ConfigReading& reading) {
  const std::string text = override_text.substr(override_text.find('=') + 1);
  const std::string place = "--set " + override_text;
  reading.places[key] = place;
  if (const size_t invalid = first_invalid_utf8(text); invalid < text.size())
    reading.problems.push_back(
        {place, key, fmt::format("found an invalid byte at offset {}, expected UTF-8", invalid)});
  else
    reading.layers.push_back(nest(key, ConfigValue{text}));
}

void read_override(const ConfigSchema& schema, const std::string& override_text,
                   ConfigReading& reading) {
  Reader reader(schema, "--set " + override_text, false, reading);
  const size_t equals = override_text.find('=');
  std::string key(trimmed(std::string_view(override_text).substr(0, equals)));
  if (equals == override_text.npos || key.empty()) {
    reader.report({}, "", "found no key and value, expected key=value");
    return;
  }
  const ConfigSchema* of_key = find_key(schema, key);
  if (of_key == nullptr) {
    reader.report_unknown({}, key);
    return;
  }
  if (of_key->type == ConfigType::kText) return read_text_override(key, override_text, reading);
  try {
    const YamlNode node = parse_yaml(override_text.substr(equals + 1));
    if (auto value = reader.read(*of_key, node, node.place, key))
      reading.layers.push_back(nest(key, *std::move(value)));
  } catch (const YamlError& error) {
    reader.report({}, key, error.what());
  }
}

}  // namespace

std::string ConfigReading::place_of(std::string_view key) const {
  const auto place = places.find(key);
  return place == places.end() ? "" : place->second;
}

void ConfigReading::throw_problems() const {
  if (!problems.empty()) throw ConfigError(problems);
}

ConfigReading read_config_text(const ConfigSchema& schema, const std::string& text,
                               std::string_view source, std::span<const std::string> overrides) {
  ConfigReading reading;
  Reader reader(schema, source, true, reading);
  try {
    const YamlNode root = parse_yaml(text);
    reading.is_empty = root.kind == YamlNode::Kind::kNull;
    if (auto value = reader.read(schema, root, root.place, ""))
      reading.layers.push_back(*std::move(value));
  } catch (const YamlError& error) {
    reader.report(error.place, "", error.what());
    reading.is_readable = false;
  }
  for (const std::string& override_text : overrides) read_override(schema, override_text, reading);
  return reading;
}

ConfigReading read_config_file(const ConfigSchema& schema, const std::filesystem::path& path,
                               std::span<const std::string> overrides) {
  std::string text;
  std::optional<ConfigProblem> problem;
  try {
    text = read_file(path);
  } catch (const Error& error) {
    problem = {.message = error.what()};  // it names the path
  }
  ConfigReading reading = read_config_text(schema, text, path.string(), overrides);
  if (problem) {
    reading.problems.insert(reading.problems.begin(), *problem);
    reading.is_readable = false;
    reading.is_empty = false;  // not known to be
  }
  return reading;
}

}  // namespace dalle
