#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/sequence_layout.h"
#include "nn/attention_kind.h"
#include "nn/decode_kernels.h"

namespace dalle {

/// The order in which a cache stores the image positions of one attention kind: raster order, or
/// column by column for patterns that read columns. In this order, the positions that a state
/// attends to form few runs of consecutive cells.
class AttendedRuns {
 public:
  /// @throws dalle::Error if conv_kernel is even or not positive
  AttendedRuns(AttentionKind kind, const SequenceLayout& layout, int64_t conv_kernel);

  /// The cell of an image position.
  int64_t cell(int64_t position) const { return cells_[static_cast<size_t>(position)]; }

  /// Whether the order is column by column.
  bool by_columns() const { return by_columns_; }

  /// The cells of the positions that a state attends to, including its own, in increasing order.
  std::span<const CellRun> runs(int64_t position) const;

 private:
  bool by_columns_ = false;
  std::vector<int64_t> cells_;  // by position
  std::vector<CellRun> runs_;   // of all positions
  std::vector<size_t> first_;   // where each position's runs begin, and the end
};

}  // namespace dalle
