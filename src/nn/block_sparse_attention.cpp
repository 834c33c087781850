#include "nn/block_sparse_attention.h"

#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
#include "nn/attention_mask.h"
#include "nn/kernel_agreement.h"
#include "tensor/held_value.h"

namespace dalle {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the backward pass needs besides tensors.
struct KernelCall {
  const AttentionKernels* kernels;
  std::shared_ptr<const BlockSparsePattern> pattern;
};

struct OutAndLse {
  at::Tensor out, lse;
};

OutAndLse run_forward(const AttentionKernels& kernels, const BlockSparsePattern& pattern,
                      const at::Tensor& qkv) {
  DALLE_CHECK(qkv.dim() == 5 && qkv.size(1) == pattern.length && qkv.size(2) == 3);
  DALLE_CHECK(qkv.is_contiguous() && kernels.rows() == pattern.rows);
  const auto sum_type = at::promote_types(qkv.scalar_type(), at::kFloat);
  OutAndLse result{
      .out = torch::empty_like(qkv.select(2, 0), at::MemoryFormat::Contiguous),
      .lse = torch::empty({qkv.size(0), qkv.size(3), qkv.size(1)}, qkv.options().dtype(sum_type))};
  kernels.forward(pattern, qkv, result.out, result.lse);
  return result;
}

class BlockSparseAttention : public torch::autograd::Function<BlockSparseAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const AttentionKernels& kernels,
                            const std::shared_ptr<const BlockSparsePattern>& pattern,
                            const at::Tensor& qkv) {
    const auto [out, lse] = run_forward(kernels, *pattern, qkv);
    context->save_for_backward({qkv, out, lse});
    context->saved_data["call"] = keep_value(KernelCall{.kernels = &kernels, .pattern = pattern});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& call = kept_value<KernelCall>(context->saved_data["call"]);
    const auto saved = context->get_saved_variables();
    auto d_qkv = torch::empty_like(saved[0]);
    call.kernels->backward(*call.pattern, saved[0], saved[1], saved[2], gradients[0].contiguous(),
                           d_qkv);
    return {at::Tensor(), at::Tensor(), d_qkv};
  }
};

/// Attention and its gradient by their definition, from [B, length, 3, heads, head width].
std::pair<at::Tensor, at::Tensor> masked_attention(const at::Tensor& additive_mask,
                                                   const at::Tensor& qkv, const at::Tensor& d_out) {
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind();  // [B, heads, length, head width]
  const auto &q = parts[0], &k = parts[1], &v = parts[2];
  const auto g = d_out.transpose(1, 2);
  const double scale = 1 / std::sqrt(static_cast<double>(qkv.size(4)));
  const auto weights = (q.matmul(k.mT()) * scale + additive_mask).softmax(3);
  const auto d_weights = g.matmul(v.mT());
  const auto d_scores = weights * (d_weights - (d_weights * weights).sum(3, true)) * scale;
  const auto gradient =
      torch::stack({d_scores.matmul(k), d_scores.mT().matmul(q), weights.mT().matmul(g)});
  return {weights.matmul(v).transpose(1, 2), gradient.permute({1, 3, 0, 2, 4})};
}

}  // namespace

at::Tensor block_sparse_attention(const AttentionKernels& kernels,
                                  const std::shared_ptr<const BlockSparsePattern>& pattern,
                                  const at::Tensor& qkv) {
  return BlockSparseAttention::apply(kernels, pattern, qkv.contiguous());
}

bool agrees_with_mask(const AttentionKernels& kernels, int64_t head_width,
                      const at::TensorOptions& options) {
  const torch::NoGradGuard no_grad;
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
    const BlockSparsePattern pattern(kind, layout, kConvKernel, kernels.rows(), options.device());
    const auto qkv = random({2, layout.length(), 3, kHeads, head_width}, 1);
    const auto d_out = random({2, layout.length(), kHeads, head_width}, 2);
    const auto [out, lse] = run_forward(kernels, pattern, qkv);
    auto d_qkv = torch::empty_like(qkv);
    kernels.backward(pattern, qkv, out, lse, d_out, d_qkv);

    const auto mask = attention_mask(kind, layout, kConvKernel).to(options.device());
    const auto [expected_out, expected_gradient] =
        masked_attention(to_additive(mask, at::kFloat), qkv.to(at::kFloat), d_out.to(at::kFloat));
    if (!rows_are_close(out, expected_out) || !rows_are_close(d_qkv, expected_gradient))
      return false;
  }
  return true;
}

}  // namespace dalle
