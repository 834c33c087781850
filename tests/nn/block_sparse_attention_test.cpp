#include "nn/gpu/block_sparse_attention.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/scaled_dot_product_attention.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "block_mask_pairs.h"
#include "core/fields.h"
#include "enum_values.h"
#include "nn/attention_blocks.h"
#include "nn/attention_mask.h"
#include "nn/attention_pattern.h"
#include "nn/gpu_kernels.h"

namespace dalle {
namespace {

constexpr int64_t kSmallWindow = 3;
constexpr SequenceLayout kSmallLayout{.text_length = 70, .grid_height = 5, .grid_width = 7};

/// The definition of what the kernels compute, from the same block masks: attention over
/// the pairs of each kernel's own mask. `gradient_scale` other than 1 makes it wrong.
class DenseKernels : public AttentionKernels {
 public:
  explicit DenseKernels(double gradient_scale = 1) : gradient_scale_(gradient_scale) {}

  KernelRows rows() const override {
    return {.forward = 32, .backward_queries = 64, .backward_keys = 128};
  }

  void forward(const BlockSparsePattern& pattern, const at::Tensor& qkv, at::Tensor& out,
               at::Tensor& lse) const override {
    const auto [q, k, v] = parts(qkv);
    const auto scores = q.matmul(k.mT()) / std::sqrt(static_cast<double>(qkv.size(4))) +
                        additive(pattern, pattern.forward, q);
    lse.copy_(scores.logsumexp(3) / std::log(2.0));
    out.copy_(scores.softmax(3).matmul(v).transpose(1, 2));
  }

  void backward(const BlockSparsePattern& pattern, const at::Tensor& qkv, const at::Tensor& out,
                const at::Tensor& lse, const at::Tensor& d_out, at::Tensor& d_qkv) const override {
    const auto [q, k, v] = parts(qkv);
    const auto g = d_out.to(q.scalar_type()).transpose(1, 2);
    const auto delta = (g * out.to(q.scalar_type()).transpose(1, 2)).sum(3, /*keepdim=*/true);
    const double scale = 1 / std::sqrt(static_cast<double>(qkv.size(4)));
    const auto scores = q.matmul(k.mT()) * scale - lse.unsqueeze(3) * std::log(2.0);
    const auto by_queries = (scores + additive(pattern, pattern.backward_queries, q)).exp();
    const auto by_keys = (scores + additive(pattern, pattern.backward_keys, q).t()).exp();
    const auto d_scores = (g.matmul(v.mT()) - delta) * scale;
    const auto d_q = (by_queries * d_scores).matmul(k);
    const auto d_k = (by_keys * d_scores).mT().matmul(q) * gradient_scale_;
    const auto d_v = by_keys.mT().matmul(g);
    d_qkv.copy_(torch::stack({d_q, d_k, d_v}).permute({1, 3, 0, 2, 4}));
  }

 private:
  struct Parts {
    at::Tensor q, k, v;  // [B, heads, length, head width]
  };

  static Parts parts(const at::Tensor& qkv) {
    const auto type = at::promote_types(qkv.scalar_type(), at::kFloat);
    const auto unbound = qkv.to(type).permute({2, 0, 3, 1, 4}).unbind();
    return {unbound[0], unbound[1], unbound[2]};
  }

  static at::Tensor additive(const BlockSparsePattern& pattern, const BlockMask& mask,
                             const at::Tensor& like) {
    const auto places = positions_of(pattern).argsort();
    const auto pairs = pairs_of(mask, pattern.length, pattern.length)
                           .index_select(0, places)
                           .index_select(1, places);
    return to_additive(pairs.to(torch::kBool), like.scalar_type());
  }

  double gradient_scale_;
};

class BlockSparseAttentionTest : public testing::TestWithParam<AttentionKind> {};

TEST_P(BlockSparseAttentionTest, GivesTheResultAndTheGradientOfMaskedAttention) {
  torch::manual_seed(3);
  const DenseKernels kernels;
  AttentionPattern pattern(GetParam(), kSmallLayout, kSmallWindow);
  const auto qkv =
      torch::randn({2, kSmallLayout.length(), 3, 2, 8}, torch::kDouble).requires_grad_();
  const auto out = block_sparse_attention(kernels, pattern.blocks(kernels.rows(), at::kCPU), qkv);
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind();
  const auto expected =
      at::scaled_dot_product_attention(parts[0], parts[1], parts[2], pattern.additive_mask(qkv))
          .transpose(1, 2);
  EXPECT_TRUE(torch::allclose(out, expected, 1e-10, 1e-12));

  const auto direction = torch::randn_like(expected);
  const auto gradient = torch::autograd::grad({out}, {qkv}, {direction})[0];
  const auto expected_gradient = torch::autograd::grad({expected}, {qkv}, {direction})[0];
  EXPECT_TRUE(torch::allclose(gradient, expected_gradient, 1e-9, 1e-11));
}

INSTANTIATE_TEST_SUITE_P(Kinds, BlockSparseAttentionTest,
                         testing::ValuesIn(enum_values<AttentionKind>()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(BlockSparseAttention, RejectsKernelsThatDisagreeWithTheMask) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto options = at::TensorOptions(at::kCPU).dtype(type);
    EXPECT_TRUE(agrees_with_mask(DenseKernels(), 16, options));
    EXPECT_FALSE(agrees_with_mask(DenseKernels(1.05), 16, options));
    EXPECT_FALSE(
        agrees_with_mask(DenseKernels(std::numeric_limits<double>::quiet_NaN()), 16, options));
  }
}

TEST(BlockSparseAttention, AcceptsGradientsThatAreNotContiguous) {
  const DenseKernels kernels;
  AttentionPattern pattern(AttentionKind::kRow, kSmallLayout);
  const auto qkv = torch::randn({1, kSmallLayout.length(), 3, 2, 4}).requires_grad_();
  const auto blocks = pattern.blocks(kernels.rows(), at::kCPU);
  const auto gradient_of = [&](const at::Tensor& direction) {
    const auto out = block_sparse_attention(kernels, blocks, qkv);
    return torch::autograd::grad({out}, {qkv}, {direction})[0];
  };
  const auto direction = torch::randn({1, 2, kSmallLayout.length(), 4}).transpose(1, 2);
  EXPECT_TRUE(torch::equal(gradient_of(direction), gradient_of(direction.contiguous())));
}

TEST(GpuKernels, AreNotForTheCpu) {
  EXPECT_EQ(find_attention_kernels(torch::zeros({1, 64}, torch::kBFloat16)), nullptr);
  EXPECT_EQ(find_norm_kernels(torch::zeros({1, 64}), Precision::kBfloat16), nullptr);
}

TEST(AttentionPattern, ComputesBlocksOncePerKindOfKernels) {
  AttentionPattern pattern(AttentionKind::kRow, kSmallLayout);
  const auto blocks = pattern.blocks(KernelRows{128, 128, 128}, at::kCPU);
  EXPECT_EQ(pattern.blocks(KernelRows{128, 128, 128}, at::kCPU), blocks);
  const KernelRows other{.forward = 64, .backward_queries = 64, .backward_keys = 64};
  EXPECT_EQ(pattern.blocks(other, at::kCPU)->rows, other);
}

}  // namespace
}  // namespace dalle
