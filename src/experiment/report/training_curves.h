#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "metrics/metric_log.h"
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

/// The curves of a run that may still train: each call reads only what has been added.
class GrowingCurves {
 public:
  explicit GrowingCurves(std::filesystem::path metrics) : metrics_(std::move(metrics)) {}

  /// @return  as read_training_curves()
  /// @throws dalle::Error if the file cannot be read
  std::vector<StageCurves> read();

 private:
  std::filesystem::path metrics_;
  MetricProgress progress_;
  std::vector<StageCurves> stages_;  ///< all points; groups have the names of metrics
};

/// Reads the curves of all stages from a metrics.jsonl: everything in it but times. Lines that are
/// not complete are left out, and long curves are thinned.
/// @return  nothing if there is no such file
/// @throws dalle::Error if it cannot be read
std::vector<StageCurves> read_training_curves(const std::filesystem::path& metrics);

}  // namespace dalle
