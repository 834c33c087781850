// The kernels for GPUs compared with LibTorch's operations, as the programs do on first use.

#include <array>
#include <memory>

#include <ATen/ops/scaled_dot_product_attention.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "core/fields.h"
#include "nn/attention_pattern.h"
#include "nn/gpu/kernel_agreement.h"
#include "nn/gpu_kernels.h"
#include "test_device.h"

namespace dalle {
namespace {

class KernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!test_device().is_cuda()) GTEST_SKIP() << "the kernels are for GPUs";
  }
};

TEST_F(KernelsTest, OfAttentionAreUsedForAllWidthsOfHeads) {
  for (const int64_t width : std::array<int64_t, 3>{32, 64, 128})
    EXPECT_NE(find_attention_kernels(
                  torch::empty({1, width}, at::device(test_device()).dtype(torch::kBFloat16))),
              nullptr)
        << width;
  EXPECT_EQ(find_attention_kernels(torch::empty({1, 64}, test_device())), nullptr);
}

TEST_F(KernelsTest, OfLayerNormalizationAreUsedForTheWidthsOfTheConfigs) {
  for (const int64_t width : std::array<int64_t, 5>{512, 768, 1024, 2048, 3968})
    EXPECT_NE(find_norm_kernels(torch::empty({1, width}, test_device()), Precision::kBfloat16),
              nullptr)
        << width;
  for (const int64_t width : std::array<int64_t, 2>{100, 8192})
    EXPECT_EQ(find_norm_kernels(torch::empty({1, width}, test_device()), Precision::kBfloat16),
              nullptr)
        << width;
  EXPECT_EQ(find_norm_kernels(torch::empty({1, 512}, test_device()), Precision::kFloat32), nullptr);
}

/// At the paper's size, where masks have many blocks.
TEST_F(KernelsTest, OfAttentionAgreeWithAttentionInFloat32) {
  const SequenceLayout layout;
  for (const AttentionKind kind :
       {AttentionKind::kRow, AttentionKind::kColumn, AttentionKind::kConv}) {
    AttentionPattern pattern(kind, layout);
    const auto qkv = torch::randn({4, layout.length(), 3, 8, 64},
                                  at::device(test_device()).dtype(torch::kBFloat16))
                         .requires_grad_();
    const AttentionKernels* kernels = find_attention_kernels(qkv);
    ASSERT_NE(kernels, nullptr);
    const auto found =
        block_sparse_attention(*kernels, pattern.blocks(kernels->rows(), test_device()), qkv);
    const auto exact = qkv.detach().to(torch::kFloat).requires_grad_();
    const auto parts = exact.permute({2, 0, 3, 1, 4}).unbind();
    const auto expected =
        at::scaled_dot_product_attention(parts[0], parts[1], parts[2], pattern.additive_mask(exact))
            .transpose(1, 2);
    EXPECT_TRUE(rows_are_close(found, expected)) << to_string(kind);
    const auto direction = torch::randn_like(found);
    EXPECT_TRUE(rows_are_close(
        torch::autograd::grad({found}, {qkv}, {direction})[0],
        torch::autograd::grad({expected}, {exact}, {direction.to(torch::kFloat)})[0]))
        << to_string(kind);
  }
}

/// Results must not depend on the order in which programs of a kernel run.
TEST_F(KernelsTest, OfAttentionGiveTheSameBitsEveryTime) {
  const SequenceLayout layout;
  const auto qkv = torch::randn({4, layout.length(), 3, 8, 64},
                                at::device(test_device()).dtype(torch::kBFloat16))
                       .requires_grad_();
  const AttentionKernels* kernels = find_attention_kernels(qkv);
  ASSERT_NE(kernels, nullptr);
  const auto pattern =
      AttentionPattern(AttentionKind::kConv, layout).blocks(kernels->rows(), test_device());
  const auto gradient = [&] {
    const auto out = block_sparse_attention(*kernels, pattern, qkv);
    return torch::autograd::grad({out}, {qkv}, {torch::ones_like(out)})[0];
  };
  EXPECT_TRUE(torch::equal(gradient(), gradient()));
}

}  // namespace
}  // namespace dalle
