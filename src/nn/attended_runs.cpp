#include "nn/attended_runs.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "nn/attention_mask.h"

namespace dalle {
namespace {

/// Appends the runs of cells that lie at the given distances before a position.
void append_runs(const std::vector<int64_t>& distances, const std::vector<int64_t>& cells,
                 int64_t position, std::vector<CellRun>& runs) {
  std::vector<int64_t> attended;
  for (const int64_t distance : distances)
    if (distance <= position) attended.push_back(cells[static_cast<size_t>(position - distance)]);
  std::ranges::sort(attended);
  int64_t end = -1;
  for (const int64_t cell : attended) {
    if (cell != end) runs.push_back({.begin = static_cast<int32_t>(cell), .count = 0});
    ++runs.back().count;
    end = cell + 1;
  }
}

}  // namespace

AttendedRuns::AttendedRuns(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel) {
  const std::vector<int64_t> distances = attended_distances(kind, layout, conv_kernel);
  const int64_t length = layout.image_length(), width = layout.grid_width;
  for (const bool by_columns : {false, true}) {
    std::vector<int64_t> cells;
    std::vector<CellRun> runs;
    std::vector<size_t> first;
    for (int64_t p = 0; p < length; ++p)
      cells.push_back(by_columns ? p % width * layout.grid_height + p / width : p);
    for (int64_t p = 0; p < length; ++p) {
      first.push_back(runs.size());
      append_runs(distances, cells, p, runs);
    }
    first.push_back(runs.size());
    if (by_columns && runs.size() >= runs_.size()) continue;
    by_columns_ = by_columns;
    cells_ = std::move(cells), runs_ = std::move(runs), first_ = std::move(first);
  }
}

std::span<const CellRun> AttendedRuns::runs(int64_t position) const {
  const auto p = static_cast<size_t>(position);
  return std::span(runs_).subspan(first_[p], first_[p + 1] - first_[p]);
}

}  // namespace dalle
