#include "nn/attention_pattern.h"

#include <algorithm>
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

TEST_P(AttentionPatternTest, AttendedPositionsAreThoseInTheRowOfTheMask) {
  for (int64_t position = kLayout.text_length; position < kLayout.length(); ++position) {
    const auto attended = std::get<0>(pattern_.attended_positions(position, at::kCPU).sort());
    EXPECT_TRUE(torch::equal(attended, mask_[position].nonzero().squeeze(1))) << position;
    EXPECT_TRUE(  // as in the next layer
        torch::equal(std::get<0>(pattern_.attended_positions(position, at::kCPU).sort()),
                     attended));
  }
  const auto first = std::get<0>(pattern_.attended_positions(kLayout.text_length, at::kCPU).sort());
  EXPECT_TRUE(torch::equal(first, torch::arange(7)));  // back to the first, as in the next sequence
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionPatternTest,
                         testing::ValuesIn(enum_values<AttentionKind>()), kEnumName);

TEST(AttentionPattern, RejectsAnEvenConvKernel) {
  EXPECT_THROW(AttentionPattern(AttentionKind::kConv, kLayout, 2), Error);
}

}  // namespace
}  // namespace dalle
