#pragma once

#include <string>
#include <utility>
#include <vector>

#include "metrics/running_means.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// For nlohmann's conversions: an array of [name, sum, count].
inline void to_json(nlohmann::ordered_json& json, const RunningMeans& means) {
  json = nlohmann::ordered_json::array();
  for (const auto& entry : means.entries()) json.push_back({entry.name, entry.sum, entry.count});
}

inline void from_json(const nlohmann::ordered_json& json, RunningMeans& means) {
  std::vector<RunningMeans::Entry> entries;
  for (const auto& entry : json)
    entries.push_back(
        {entry.at(0).get<std::string>(), entry.at(1).get<double>(), entry.at(2).get<int64_t>()});
  means.restore(std::move(entries));
}

}  // namespace dalle
