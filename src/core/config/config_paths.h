#pragma once

#include <string>

#include "core/config/config_schema.h"

namespace dalle {

/// Calls `visit` with the dotted path of every key, also of structs, in the order of the fields.
/// The keys of a struct follow it if `visit` returns true for it.
template <class Visit>
void walk_keys(const ConfigSchema& schema, const std::string& path, Visit&& visit) {
  for (const ConfigKey& key : schema.keys) {
    const std::string key_path = join_key(path, key.name);
    if (visit(key_path, key)) walk_keys(key.schema, key_path, visit);
  }
}

}  // namespace dalle
