#include "core/config/config_io.h"

#include <algorithm>

namespace dalle {
namespace {

bool is_ignored(std::string_view key, std::span<const std::string_view> ignored) {
  return std::ranges::any_of(ignored, [&](std::string_view prefix) {
    return key.starts_with(prefix) && (key.size() == prefix.size() || key[prefix.size()] == '.');
  });
}

void collect(const ConfigValue& old_value, const ConfigValue& new_value, const std::string& path,
             std::span<const std::string_view> ignored, std::vector<ConfigChange>& changes) {
  if (old_value == new_value || is_ignored(path, ignored)) return;
  const auto* old_map = std::get_if<ConfigValue::Map>(&old_value.data);
  const auto* new_map = std::get_if<ConfigValue::Map>(&new_value.data);
  if (old_map == nullptr || new_map == nullptr) {
    changes.push_back({path, dump_inline(old_value), dump_inline(new_value)});
    return;
  }
  DALLE_CHECK(old_map->size() == new_map->size());
  for (size_t i = 0; i < old_map->size(); ++i) {
    DALLE_CHECK((*old_map)[i].key == (*new_map)[i].key);
    collect((*old_map)[i].value, (*new_map)[i].value, join_key(path, (*old_map)[i].key), ignored,
            changes);
  }
}

std::string join(const std::vector<ConfigProblem>& problems) {
  std::string text;
  for (const ConfigProblem& problem : problems) text += (text.empty() ? "" : "\n") + problem.text();
  return text;
}

}  // namespace

std::string ConfigProblem::text() const {
  std::string text;
  for (const std::string* part : {&place, &key, &message})
    if (!part->empty()) text += (text.empty() ? "" : ": ") + *part;
  std::ranges::replace_if(
      text,
      [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7f;
      },
      ' ');
  return text;
}

ConfigError::ConfigError(std::vector<ConfigProblem> problems)
    : Error("{}", join(problems)), problems_(std::move(problems)) {
  DALLE_CHECK(!problems_.empty());
}

std::vector<ConfigChange> diff_values(const ConfigValue& old_config, const ConfigValue& new_config,
                                      std::span<const std::string_view> ignored) {
  std::vector<ConfigChange> changes;
  collect(old_config, new_config, "", ignored, changes);
  return changes;
}

}  // namespace dalle
