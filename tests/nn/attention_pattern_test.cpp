#include "nn/attention_pattern.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/fields.h"
#include "enum_values.h"
#include "nn/attention_mask.h"

namespace dalle {
namespace {

constexpr SequenceLayout kLayout{.text_length = 6, .grid_height = 4, .grid_width = 4};

class AttentionPatternTest : public testing::TestWithParam<AttentionKind> {
 protected:
  AttentionPattern pattern_{GetParam(), kLayout, 3};
  at::Tensor mask_ = attention_mask(GetParam(), kLayout, 3);
};

TEST_P(AttentionPatternTest, AddsZeroToAttendedScoresAndMinusInfinityToOthers) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto additive = pattern_.additive_mask(torch::ones({1}, type));
    EXPECT_EQ(additive.scalar_type(), type);
    EXPECT_TRUE(torch::equal(additive.eq(0), mask_));
    EXPECT_TRUE(
        torch::equal(additive.eq(-std::numeric_limits<double>::infinity()), mask_.logical_not()));
  }
}

TEST_P(AttentionPatternTest, ComputesItsMaskOnlyOnce) {
  const auto like = torch::ones({1}).requires_grad_();
  const void* first = pattern_.additive_mask(like).const_data_ptr();
  EXPECT_EQ(pattern_.additive_mask(like).const_data_ptr(), first);
  EXPECT_FALSE(pattern_.additive_mask(like).requires_grad());
}

TEST_P(AttentionPatternTest, AttendedKeysAreThoseInTheRowOfTheMask) {
  const int64_t cells = pattern_.cache_cells();
  EXPECT_GE(cells, kLayout.length());
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (int64_t i = 0; i < kLayout.image_length(); ++i) {
      const AttendedKeys keys = pattern_.attended_keys(torch::tensor({i}), type);
      const int64_t state = kLayout.text_length + i;
      EXPECT_TRUE(torch::equal(keys.cell, torch::tensor({state})));
      EXPECT_EQ(keys.cells.defined(), GetParam() != AttentionKind::kDense);
      const auto of_keys = keys.cells.defined() ? keys.cells : torch::arange(cells);
      EXPECT_EQ(keys.mask.scalar_type(), type);
      EXPECT_EQ(keys.mask.sizes(), at::IntArrayRef({1, of_keys.size(0)}));
      EXPECT_EQ(of_keys.size(0) % 16, 0);
      EXPECT_LT(of_keys.max().item<int64_t>(), cells);
      const auto is_key = keys.mask[0].eq(0);
      EXPECT_TRUE(torch::equal(of_keys.masked_select(is_key), mask_[state].nonzero().squeeze(1)))
          << i;
      EXPECT_TRUE(torch::equal(keys.mask[0].isneginf(), is_key.logical_not()));
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionPatternTest,
                         testing::ValuesIn(enum_values<AttentionKind>()), kEnumName);

TEST(AttentionPattern, RejectsAnEvenConvKernel) {
  EXPECT_THROW(AttentionPattern(AttentionKind::kConv, kLayout, 2), Error);
}

}  // namespace
}  // namespace dalle
