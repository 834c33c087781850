#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/config/config_value.h"
#include "core/fields.h"

namespace dalle {

enum class ConfigType { kBool, kInteger, kNumber, kText, kChoice, kList, kStruct };

/// What values of a type are called. A number's range, the names of a choice and the items of a
/// described list follow.
struct ConfigTypeWords {
  std::string_view described;  ///< by describe()
  std::string_view expected;   ///< by messages
  std::string_view json;       ///< by JSON Schema
};

constexpr ConfigTypeWords words_of(ConfigType type) {
  constexpr std::array<ConfigTypeWords, 7> kWords = {{{"true or false", "true or false", "boolean"},
                                                      {"integer", "an integer", "integer"},
                                                      {"number", "a number", "number"},
                                                      {"text", "text", "string"},
                                                      {"name", "one of ", "string"},
                                                      {"list: ", "a list in [brackets]", "array"},
                                                      {"keys", "a mapping", "object"}}};
  return kWords.at(static_cast<size_t>(type));
}

struct ConfigKey;

/// What a value must look like: the run-time form of a config struct's fields() list, so that
/// checking, dumping and describing are plain functions and only the three short templates below
/// depend on the struct itself.
struct ConfigSchema {
  ConfigType type = ConfigType::kStruct;
  bool is_nullable = false;  ///< std::optional: null is a value too
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};   ///< kChoice: the enum's names, in its order
  std::vector<ConfigSchema> element = {};  ///< kList: one, what each item must look like
  std::vector<ConfigKey> keys;             ///< kStruct: in the order of fields()

  bool is_number() const { return type == ConfigType::kInteger || type == ConfigType::kNumber; }
};

struct ConfigKey {
  std::string name;
  std::string help;
  std::string paper;
  std::string formerly;     ///< see Field
  bool may_change = false;  ///< see Field
  ConfigValue default_value;
  ConfigSchema schema;
};

/// Calls `visit` with the dotted path of every key, also of structs, in the order of the fields.
/// The keys of a struct follow it if `visit` returns true for it.
void walk_keys(const ConfigSchema& schema, const std::string& path,
               const std::function<bool(const std::string& path, const ConfigKey& key)>& visit);

/// Calls `visit` with the dotted path of every key that holds a value (a struct is visited through
/// its keys, after itself if it may be null), in the order of the fields.
void for_each_key(const ConfigSchema& schema,
                  const std::function<void(const std::string& path, const ConfigKey& key)>& visit);

/// Dotted paths of the keys, and of whole structs, whose fields say that they may change when a run
/// is resumed.
std::vector<std::string> keys_that_may_change(const ConfigSchema& schema);

/// Every key with its type, range, default, meaning and the paper's value, for people to read.
std::string describe(const ConfigSchema& schema);

/// JSON Schema (draft 2020-12) of the whole YAML, for editors that check and complete it.
std::string json_schema(const ConfigSchema& schema, std::string_view title);

namespace detail {
template <class T, template <class...> class Template>
inline constexpr bool kIsA = false;
template <template <class...> class Template, class... Args>
inline constexpr bool kIsA<Template<Args...>, Template> = true;

template <class T>
concept ConfigScalar = std::same_as<T, bool> || std::same_as<T, int64_t> ||
    std::same_as<T, double> || std::same_as<T, std::string>;
}  // namespace detail

/// The struct, or a member of one, as plain data: all keys, in the order of fields().
template <class T>
ConfigValue to_config_value(const T& member) {
  if constexpr (ConfigStruct<T>) {
    ConfigValue::Map map;
    T::fields(member, [&](std::string_view name, const auto& child, const Field&) {
      map.push_back({std::string(name), to_config_value(child)});
    });
    return {std::move(map)};
  } else if constexpr (NamedEnum<T>) {
    return {std::string(to_string(member))};
  } else if constexpr (detail::kIsA<T, std::optional>) {
    return member ? to_config_value(*member) : ConfigValue{};
  } else if constexpr (detail::kIsA<T, std::vector>) {
    ConfigValue::List list;
    for (const typename T::value_type& item : member) list.push_back(to_config_value(item));
    return {std::move(list)};
  } else {
    static_assert(detail::ConfigScalar<T>, "a config member of a kind that fields.h does not list");
    return {member};
  }
}

/// Sets a struct or a member from data that a schema has already accepted. A map sets the keys that
/// it holds and leaves the others.
template <class T>
void assign_config_value(const ConfigValue& value, T& member) {
  if constexpr (ConfigStruct<T>) {
    for (const ConfigEntry& entry : std::get<ConfigValue::Map>(value.data))
      T::fields(member, [&](std::string_view name, auto& child, const Field&) {
        if (name == entry.key) assign_config_value(entry.value, child);
      });
  } else if constexpr (NamedEnum<T>) {
    member = find_enum<T>(std::get<std::string>(value.data)).value();
  } else if constexpr (detail::kIsA<T, std::optional>) {
    const bool is_null = std::holds_alternative<std::monostate>(value.data);
    if (is_null || !ConfigStruct<typename T::value_type>) member.reset();
    if (!is_null && !member) member.emplace();
    if (!is_null) assign_config_value(value, *member);
  } else if constexpr (detail::kIsA<T, std::vector>) {
    member.clear();
    for (const ConfigValue& item : std::get<ConfigValue::List>(value.data)) {
      typename T::value_type element{};
      assign_config_value(item, element);
      member.push_back(std::move(element));
    }
  } else {
    static_assert(detail::ConfigScalar<T>, "a config member of a kind that fields.h does not list");
    member = std::get<T>(value.data);
  }
}

/// What a struct's keys must look like, with the values of `defaults` as their defaults.
///
/// @param field  of the member itself; its range holds for each number in it
template <class T>
ConfigSchema config_schema(const T& defaults = {}, const Field& field = {}) {
  ConfigSchema schema;
  schema.min = field.min;
  schema.max = field.max;
  if constexpr (ConfigStruct<T>) {
    schema.type = ConfigType::kStruct;
    T::fields(defaults, [&](std::string_view name, const auto& child, const Field& of_child) {
      schema.keys.push_back({.name = std::string(name),
                             .help = std::string(of_child.help),
                             .paper = std::string(of_child.paper),
                             .formerly = std::string(of_child.formerly),
                             .may_change = of_child.may_change,
                             .default_value = to_config_value(child),
                             .schema = config_schema(child, of_child)});
    });
  } else if constexpr (NamedEnum<T>) {
    schema.type = ConfigType::kChoice;
    schema.choices = list_enum_names<T>();
  } else if constexpr (detail::kIsA<T, std::optional>) {
    schema = config_schema(typename T::value_type{}, field);
    schema.is_nullable = true;
  } else if constexpr (detail::kIsA<T, std::vector>) {
    schema.type = ConfigType::kList;
    schema.element.push_back(config_schema(typename T::value_type{}, field));
  } else if constexpr (std::same_as<T, bool>) {
    schema.type = ConfigType::kBool;
  } else if constexpr (std::same_as<T, int64_t>) {
    schema.type = ConfigType::kInteger;
  } else if constexpr (std::same_as<T, double>) {
    schema.type = ConfigType::kNumber;
  } else {
    static_assert(detail::ConfigScalar<T>, "a config member of a kind that fields.h does not list");
    schema.type = ConfigType::kText;
  }
  return schema;
}

}  // namespace dalle
