#include "nn/gpu/block_sparse_attention.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "core/error.h"
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

class BlockSparseAttention : public torch::autograd::Function<BlockSparseAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const AttentionKernels& kernels,
                            const std::shared_ptr<const BlockSparsePattern>& pattern,
                            const at::Tensor& qkv) {
    DALLE_CHECK(qkv.dim() == 5 && qkv.size(1) == pattern->length && qkv.size(2) == 3);
    DALLE_CHECK(qkv.is_contiguous() && kernels.rows() == pattern->rows);
    const auto sum_type = at::promote_types(qkv.scalar_type(), at::kFloat);
    auto out = torch::empty_like(qkv.select(2, 0), at::MemoryFormat::Contiguous);
    auto lse = torch::empty({qkv.size(0), qkv.size(3), qkv.size(1)}, qkv.options().dtype(sum_type));
    kernels.forward(*pattern, qkv, out, lse);
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

}  // namespace

at::Tensor block_sparse_attention(const AttentionKernels& kernels,
                                  const std::shared_ptr<const BlockSparsePattern>& pattern,
                                  const at::Tensor& qkv) {
  return BlockSparseAttention::apply(kernels, pattern, qkv.contiguous());
}

}  // namespace dalle
