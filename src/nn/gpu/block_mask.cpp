#include "nn/gpu/block_mask.h"

#include <torch/types.h>

#include "core/error.h"
#include "tensor/round_up.h"

namespace dalle {
namespace {

constexpr int64_t kColumns = 64;  // of a block
constexpr int64_t kWord = 32;     // bits

/// The begin and the end of each row block's entries in a list of the blocks that `blocks` marks.
at::Tensor ranges_of(const at::Tensor& blocks) {
  const auto counts = blocks.sum(1), ends = counts.cumsum(0);
  return torch::stack({ends - counts, ends}, 1);
}

/// [row blocks, column blocks] bool as the columns of the marked blocks, row by row.
at::Tensor columns_of(const at::Tensor& blocks) {
  return blocks.nonzero().select(1, 1);
}

}  // namespace

BlockMask make_block_mask(const at::Tensor& mask, int64_t rows) {
  DALLE_CHECK(mask.dim() == 2 && rows > 0);
  const int64_t row_blocks = round_up(mask.size(0), rows) / rows;
  const int64_t column_blocks = round_up(mask.size(1), kColumns) / kColumns;
  auto padded = torch::zeros({row_blocks * rows, column_blocks * kColumns}, torch::kBool);
  padded.slice(0, 0, mask.size(0)).slice(1, 0, mask.size(1)).copy_(mask);
  const auto blocks = padded.view({row_blocks, rows, column_blocks, kColumns}).transpose(1, 2);

  const auto pairs = blocks.sum({2, 3});  // [row blocks, column blocks]
  const auto rows_inside = (mask.size(0) - torch::arange(row_blocks) * rows).clamp_max(rows);
  const auto full = pairs == (rows_inside * kColumns).unsqueeze(1);
  const auto partial = (pairs > 0) & full.logical_not();

  auto bits = torch::ones({kWord}, torch::kInt64).bitwise_left_shift(torch::arange(kWord));
  bits[kWord - 1].neg_();  // the sign of a 32-bit number
  const auto words = (blocks.index({partial}).view({-1, rows, 2, kWord}) * bits).sum(3);
  return {.ranges = torch::cat({ranges_of(full), ranges_of(partial)}, 1).to(torch::kInt),
          .full = columns_of(full).to(torch::kInt),
          .partial = columns_of(partial).to(torch::kInt),
          .masks = words.transpose(1, 2).to(torch::kInt).contiguous()};
}

}  // namespace dalle
