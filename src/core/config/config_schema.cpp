#include "core/config/config_schema.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/number_range.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

std::string type_text(const ConfigSchema& schema) {
  std::string text(words_of(schema.type).described);
  if (schema.is_number()) text += range_phrase(schema.min, schema.max);
  if (schema.type == ConfigType::kList) text += type_text(schema.element.front());
  return text + (schema.is_nullable ? ", or null" : "");
}

/// The names that a choice, or the items of a list of choices, may have.
const std::vector<std::string>& choices_of(const ConfigSchema& schema) {
  return schema.type == ConfigType::kList ? choices_of(schema.element.front()) : schema.choices;
}

Json to_json(const ConfigValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        using Held = std::remove_cvref_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::monostate>) {
          return nullptr;
        } else if constexpr (std::is_same_v<Held, ConfigValue::List>) {
          Json list = Json::array();
          for (const ConfigValue& item : held) list.push_back(to_json(item));
          return list;
        } else if constexpr (std::is_same_v<Held, ConfigValue::Map>) {
          Json map = Json::object();
          for (const ConfigEntry& entry : held) map[entry.key] = to_json(entry.value);
          return map;
        } else {
          return held;
        }
      },
      value.data);
}

Json limit_json(double limit) {
  const bool is_whole = limit == static_cast<double>(static_cast<int64_t>(limit));
  return is_whole ? Json(static_cast<int64_t>(limit)) : Json(limit);
}

Json schema_json(const ConfigSchema& schema) {
  Json json = Json::object();
  const std::string_view type = words_of(schema.type).json;
  json["type"] = schema.is_nullable ? Json::array({type, "null"}) : Json(type);
  if (schema.is_number() && std::isfinite(schema.min)) json["minimum"] = limit_json(schema.min);
  if (schema.is_number() && std::isfinite(schema.max)) json["maximum"] = limit_json(schema.max);
  if (schema.type == ConfigType::kChoice) {
    json["enum"] = schema.choices;
    if (schema.is_nullable) json["enum"].push_back(nullptr);
  }
  if (schema.type == ConfigType::kList) json["items"] = schema_json(schema.element.front());
  if (schema.type == ConfigType::kStruct) {
    json["additionalProperties"] = false;
    json["properties"] = Json::object();
    for (const ConfigKey& key : schema.keys) {
      Json child = schema_json(key.schema);
      child["description"] = key.paper.empty() ? key.help : key.help + ". Paper: " + key.paper;
      if (key.schema.type != ConfigType::kStruct || key.schema.is_nullable)
        child["default"] = to_json(key.default_value);
      json["properties"][key.name] = child;
      if (key.formerly.empty()) continue;
      Json former = {{"deprecated", true}};
      former.update(child);
      json["properties"][key.formerly] = std::move(former);
    }
  }
  return json;
}

}  // namespace

void walk_keys(const ConfigSchema& schema, const std::string& path,
               const std::function<bool(const std::string&, const ConfigKey&)>& visit) {
  for (const ConfigKey& key : schema.keys) {
    const std::string key_path = join_key(path, key.name);
    if (visit(key_path, key)) walk_keys(key.schema, key_path, visit);
  }
}

void for_each_key(const ConfigSchema& schema,
                  const std::function<void(const std::string&, const ConfigKey&)>& visit) {
  walk_keys(schema, "", [&](const std::string& path, const ConfigKey& key) {
    if (key.schema.type != ConfigType::kStruct || key.schema.is_nullable) visit(path, key);
    return true;
  });
}

std::vector<std::string> keys_that_may_change(const ConfigSchema& schema) {
  std::vector<std::string> paths;
  walk_keys(schema, "", [&](const std::string& path, const ConfigKey& key) {
    if (key.may_change) paths.push_back(path);
    return !key.may_change;
  });
  return paths;
}

std::string describe(const ConfigSchema& schema) {
  size_t path_width = 0;
  size_t type_width = 0;
  for_each_key(schema, [&](const std::string& path, const ConfigKey& key) {
    path_width = std::max(path_width, path.size());
    type_width = std::max(type_width, type_text(key.schema).size());
  });
  std::string text;
  for_each_key(schema, [&](const std::string& path, const ConfigKey& key) {
    text += fmt::format("{:<{}}  {:<{}}  default {}\n", path, path_width, type_text(key.schema),
                        type_width, dump_inline(key.default_value));
    text += fmt::format("    {}\n", key.help);
    if (const auto& choices = choices_of(key.schema); !choices.empty())
      text += fmt::format("    one of: {}\n", fmt::join(choices, ", "));
    if (!key.paper.empty()) text += fmt::format("    paper: {}\n", key.paper);
    if (!key.formerly.empty()) text += fmt::format("    formerly: {}\n", key.formerly);
  });
  return text;
}

std::string json_schema(const ConfigSchema& schema, std::string_view title) {
  Json json = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  json.update(schema_json(schema));
  return json.dump(2) + "\n";
}

}  // namespace dalle
