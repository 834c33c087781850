#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "report/charts.h"

namespace dalle {

/// Metrics of a stage that belong together, such as the loss in training and in validation.
struct CurveGroup {
  std::string name;  ///< what the chart shows, with its unit
  std::vector<ChartSeries> series;
};

struct StageCurves {
  std::string stage;
  std::vector<CurveGroup> groups;  ///< in the order of the file
};

/// Reads the curves of all stages from a metrics.jsonl: everything in it but times. Lines that are
/// not complete are left out, and long curves are thinned.
/// @return  nothing if there is no such file
/// @throws dalle::Error if it cannot be read
std::vector<StageCurves> read_training_curves(const std::filesystem::path& metrics);

}  // namespace dalle
