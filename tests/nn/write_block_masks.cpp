// Writes the block masks of some patterns for tests/python/gpu_kernels_test.py.
//
//   write_block_masks OUTPUT_FOLDER

#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <torch/types.h>

#include "core/fields.h"
#include "nn/attention_blocks.h"
#include "nn/attention_mask.h"
#include "nn/gpu/block_mask.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

struct Example {
  AttentionKind kind;
  SequenceLayout layout;
  int64_t conv_kernel;
  int64_t rows;
};

void write(const Example& example, const std::filesystem::path& folder) {
  const auto& [kind, layout, conv_kernel, rows] = example;
  const BlockSparsePattern pattern = block_sparse_pattern(
      kind, layout, conv_kernel, {.forward = rows, .backward_queries = rows, .backward_keys = rows},
      at::kCPU);
  NamedTensors tensors;
  const auto add = [&](const std::string& name, const BlockMask& mask) {
    tensors.emplace_back(name + ".ranges", mask.ranges);
    tensors.emplace_back(name + ".full", mask.full);
    tensors.emplace_back(name + ".partial", mask.partial);
    tensors.emplace_back(name + ".masks", mask.masks);
  };
  add("queries", pattern.forward);
  add("keys", pattern.backward_keys);
  tensors.emplace_back("mask", attention_mask(kind, layout, conv_kernel).to(torch::kUInt8));
  tensors.emplace_back("order", torch::tensor({pattern.length, pattern.text_length, pattern.period,
                                               pattern.stride, rows}));
  write_safetensors(folder / fmt::format("{}_{}.safetensors", to_string(kind), layout.length()),
                    tensors);
}

}  // namespace
}  // namespace dalle

int main(int count, char** arguments) {
  if (count != 2) return 2;
  using dalle::AttentionKind;
  const dalle::SequenceLayout paper;
  const dalle::SequenceLayout odd{.text_length = 40, .grid_height = 9, .grid_width = 14};
  for (const auto kind : {AttentionKind::kRow, AttentionKind::kColumn, AttentionKind::kConv}) {
    dalle::write({kind, paper, 11, 128}, arguments[1]);
    dalle::write({kind, odd, 5, 64}, arguments[1]);
  }
}
