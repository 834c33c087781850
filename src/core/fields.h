#pragma once

#include <array>
#include <concepts>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"

namespace dalle {

/// The dotted path of a key of the struct at `path`, which is empty for the whole config.
inline std::string join_key(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

/// What a config key means and which values it takes. A config struct lists its keys once, in
///
///     template <class Self, class Visitor>
///     static void fields(Self& self, Visitor&& visit) {
///       visit("groups", self.groups, {.help = "groups of blocks", .min = 1, .paper = "4"});
///     }
///
/// and loading, overriding, dumping, checking and describing all come from that list
/// (config_io.h). Members may be bool, int64_t, double, std::string, enums with a names table,
/// std::optional and std::vector of these, other config structs, and std::optional of those: a
/// section that YAML may leave out.
struct Field {
  std::string_view help;
  double min = -std::numeric_limits<double>::infinity();  ///< smallest allowed number
  double max = std::numeric_limits<double>::infinity();   ///< largest allowed number
  std::string_view paper = "";  ///< the paper's value and its section, where the paper has one
  /// The name in YAML files and checkpoints of former versions, which is still accepted.
  std::string_view formerly = "";
  /// A resumed run may change it: no number of its training depends on it.
  bool may_change = false;
  /// Each rank may have its own: a path on its machine, of data that are checked to be the same.
  bool may_differ_between_ranks = false;
};

/// The names table of an enum whose values are 0, 1, 2, ...: (value, name) pairs. `names` lists the
/// names of all values, in the enum's order.
template <class E>
constexpr auto names_in_order(const auto&... names) {
  int next = 0;
  return std::array{std::pair{static_cast<E>(next++), std::string_view(names)}...};
}

/// An enum that YAML can name: `enum_names(E{})` is its names table.
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires {
  enum_names(E{});
};

namespace detail {
struct AnyFieldVisitor {
  template <class Member>
  void operator()(std::string_view, Member&, const Field&) const {}
};
}  // namespace detail

template <class T>
concept ConfigStruct = requires(T& config) {
  T::fields(config, detail::AnyFieldVisitor{});
};

template <NamedEnum E>
std::string_view to_string(E value) {
  for (const auto& [candidate, name] : enum_names(E{}))
    if (candidate == value) return name;
  throw Error("enum value {} has no name", static_cast<int>(value));
}

/// The value with this name; none if there is no such name.
template <NamedEnum E>
std::optional<E> find_enum(std::string_view name) {
  for (const auto& [value, known] : enum_names(E{}))
    if (known == name) return value;
  return std::nullopt;
}

/// All names, in the enum's order.
template <NamedEnum E>
std::vector<std::string> list_enum_names() {
  std::vector<std::string> names;
  for (const auto& [value, name] : enum_names(E{})) names.emplace_back(name);
  return names;
}

}  // namespace dalle
