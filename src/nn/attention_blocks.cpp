#include "nn/attention_blocks.h"

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "nn/attended_runs.h"
#include "nn/attention_mask.h"
#include "nn/gpu/kernel_agreement.h"

namespace dalle {
namespace {

BlockMask on_device(const BlockMask& mask, c10::Device device) {
  return {.ranges = mask.ranges.to(device),
          .full = mask.full.to(device),
          .partial = mask.partial.to(device),
          .masks = mask.masks.to(device)};
}

/// Attention by its definition.
/// @param qkv  [B, length, 3, heads, head width]
/// @return     [B, length, heads, head width]
at::Tensor masked_attention(const at::Tensor& additive_mask, const at::Tensor& qkv) {
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind();  // [B, heads, length, head width]
  const double scale = 1 / std::sqrt(static_cast<double>(qkv.size(4)));
  const auto weights = (parts[0].matmul(parts[1].mT()) * scale + additive_mask).softmax(3);
  return weights.matmul(parts[2]).transpose(1, 2);
}

}  // namespace

BlockSparsePattern block_sparse_pattern(AttentionKind kind, const SequenceLayout& layout,
                                        int64_t conv_kernel, const KernelRows& rows,
                                        c10::Device device) {
  const bool by_columns = AttendedRuns(kind, layout, conv_kernel).by_columns();
  const int64_t period = by_columns ? layout.grid_height : layout.image_length();
  const int64_t stride = by_columns ? layout.grid_width : 1;
  const auto cells = torch::arange(layout.image_length());
  const auto image = cells % period * stride + at::floor_divide(cells, period);
  const auto positions =
      torch::cat({torch::arange(layout.text_length), layout.text_length + image});
  const auto mask = attention_mask(kind, layout, conv_kernel)
                        .index_select(0, positions)
                        .index_select(1, positions);
  return {.length = layout.length(),
          .text_length = layout.text_length,
          .period = period,
          .stride = stride,
          .rows = rows,
          .forward = on_device(make_block_mask(mask, rows.forward), device),
          .backward_queries = on_device(make_block_mask(mask, rows.backward_queries), device),
          .backward_keys = on_device(make_block_mask(mask.t(), rows.backward_keys), device)};
}

bool agrees_with_mask(const AttentionKernels& kernels, int64_t head_width,
                      const at::TensorOptions& options) {
  constexpr int64_t kHeads = 2, kConvKernel = 5;
  struct Example {
    AttentionKind kind;
    SequenceLayout layout;
  };
  // One with blocks that are attended to as a whole, and one with few keys, each of which matters.
  const std::array examples{
      Example{AttentionKind::kConv, {.text_length = 150, .grid_height = 12, .grid_width = 20}},
      Example{AttentionKind::kColumn, {.text_length = 10, .grid_height = 12, .grid_width = 20}}};
  for (const auto& [kind, layout] : examples) {
    const auto random = [&](const std::vector<int64_t>& sizes, uint64_t seed) {
      return random_numbers(sizes, seed, options.device()).to(options.dtype());
    };
    const auto qkv = random({2, layout.length(), 3, kHeads, head_width}, 1);
    const auto d_out = random({2, layout.length(), kHeads, head_width}, 2);
    const auto pattern = std::make_shared<const BlockSparsePattern>(
        block_sparse_pattern(kind, layout, kConvKernel, kernels.rows(), options.device()));
    const auto mask = attention_mask(kind, layout, kConvKernel).to(options.device());
    const torch::AutoGradMode with_gradients(true);
    const auto leaf = qkv.detach().requires_grad_();
    const auto out = block_sparse_attention(kernels, pattern, leaf);
    const auto d_qkv = torch::autograd::grad({out}, {leaf}, {d_out})[0];
    const auto exact_leaf = qkv.detach().to(at::kFloat).requires_grad_();
    const auto exact = masked_attention(to_additive(mask, at::kFloat), exact_leaf);
    const auto exact_d_qkv =
        torch::autograd::grad({exact}, {exact_leaf}, {d_out.to(at::kFloat)})[0];

    const torch::NoGradGuard no_grad;
    if (!rows_are_close(out, exact) || !rows_are_close(d_qkv, exact_d_qkv)) return false;
  }
  return true;
}

}  // namespace dalle
