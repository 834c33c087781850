#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>
#include <torch/types.h>

#include "nn/gpu/block_mask.h"

namespace dalle {

/// The pairs of a BlockMask, read as kernels do.
/// @return  [rows, columns] int64: how often the mask has the pair
inline at::Tensor pairs_of(const BlockMask& mask, int64_t rows, int64_t columns) {
  const int64_t row_blocks = mask.ranges.size(0), block_rows = mask.masks.size(2);
  const int64_t column_blocks = (columns + 63) / 64;
  auto pairs = torch::zeros({row_blocks * block_rows, column_blocks * 64}, torch::kInt64);
  const auto ranges = mask.ranges.accessor<int32_t, 2>();
  const auto full = mask.full.accessor<int32_t, 1>(), partial = mask.partial.accessor<int32_t, 1>();
  for (int64_t block = 0; block < row_blocks; ++block) {
    const auto in_rows = pairs.slice(0, block * block_rows, (block + 1) * block_rows);
    for (int64_t i = ranges[block][0]; i < ranges[block][1]; ++i)
      in_rows.slice(1, full[i] * 64, (full[i] + 1) * 64) += 1;
    for (int64_t i = ranges[block][2]; i < ranges[block][3]; ++i) {
      const auto words = mask.masks[i].to(torch::kInt64).bitwise_and(0xffffffff);  // [2, rows]
      const auto bits = words.unsqueeze(2)
                            .bitwise_right_shift(torch::arange(32))
                            .bitwise_and(1)  // [2, rows, 32]
                            .transpose(0, 1)
                            .flatten(1);
      in_rows.slice(1, partial[i] * 64, (partial[i] + 1) * 64) += bits;
    }
  }
  return pairs.slice(0, 0, rows).slice(1, 0, columns);
}

/// The position of each place of a pattern.
inline at::Tensor positions_of(const BlockSparsePattern& pattern) {
  std::vector<int64_t> positions;
  for (int64_t place = 0; place < pattern.length; ++place) {
    const int64_t cell = place - pattern.text_length;
    positions.push_back(cell < 0 ? place
                                 : pattern.text_length + cell % pattern.period * pattern.stride +
                                       cell / pattern.period);
  }
  return torch::tensor(positions, torch::kInt64);
}

}  // namespace dalle
