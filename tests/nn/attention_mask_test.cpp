#include "nn/attention_mask.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/fields.h"
#include "enum_values.h"

namespace dalle {
namespace {

// Figure 11 of the paper: six text tokens, then a 4x4 grid of image tokens.
constexpr SequenceLayout kFigure11{.text_length = 6, .grid_height = 4, .grid_width = 4};
constexpr SequenceLayout kFullSize{};

std::vector<int64_t> image_keys(AttentionKind kind, int64_t image_query) {
  const auto row = attention_mask(kind, kFigure11, 3)[kFigure11.text_length + image_query];
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < kFigure11.image_length(); ++key)
    if (row[kFigure11.text_length + key].item<bool>()) keys.push_back(key);
  return keys;
}

class AttentionMaskTest : public testing::TestWithParam<AttentionKind> {};

TEST_P(AttentionMaskTest, IsCausal) {
  EXPECT_FALSE(attention_mask(GetParam(), kFigure11, 3).triu(1).any().item<bool>());
}

TEST_P(AttentionMaskTest, AttendsToItselfAndAllText) {
  const auto mask = attention_mask(GetParam(), kFigure11, 3);
  EXPECT_TRUE(mask.diagonal().all().item<bool>());
  EXPECT_TRUE(
      mask.slice(0, kFigure11.text_length).slice(1, 0, kFigure11.text_length).all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionMaskTest, testing::ValuesIn(enum_values<AttentionKind>()),
                         kEnumName);

TEST(AttentionMask, MatchesFigure11OfThePaper) {
  using Keys = std::vector<int64_t>;
  EXPECT_EQ(image_keys(AttentionKind::kRow, 15), (Keys{11, 12, 13, 14, 15}));
  EXPECT_EQ(image_keys(AttentionKind::kColumn, 13), (Keys{1, 5, 9, 13}));
  EXPECT_EQ(image_keys(AttentionKind::kConv, 2), (Keys{1, 2}));
  EXPECT_EQ(image_keys(AttentionKind::kConv, 3), (Keys{0, 2, 3}));
  EXPECT_EQ(image_keys(AttentionKind::kConv, 7), (Keys{0, 2, 3, 4, 6, 7}));
  EXPECT_EQ(image_keys(AttentionKind::kConv, 15), (Keys{8, 10, 11, 12, 14, 15}));
}

TEST(AttentionMask, HasTheExpectedNumbersOfPairsAtThePapersSize) {
  const auto image_pairs = [](AttentionKind kind) {
    const int64_t text = kFullSize.text_length;
    return attention_mask(kind, kFullSize).slice(0, text).slice(1, text).sum().item<int64_t>();
  };
  EXPECT_EQ(image_pairs(AttentionKind::kDense), 524'800);
  EXPECT_EQ(image_pairs(AttentionKind::kRow), 33'264);
  EXPECT_EQ(image_pairs(AttentionKind::kColumn), 16'896);
  EXPECT_EQ(image_pairs(AttentionKind::kConv), 61'344);
}

TEST(AttentionMask, HasTheOffsetsOfAnElevenByElevenWindowAtThePapersSize) {
  std::vector<int64_t>
      expected;  // up to 5 rows above, up to 5 columns to either side, wrapping around row ends
  for (int64_t row = 0; row <= 5; ++row)
    for (const int64_t column : {0, 1, 2, 3, 4, 5, 27, 28, 29, 30, 31})
      expected.push_back(32 * row + column);
  EXPECT_EQ(attended_distances(AttentionKind::kConv, kFullSize, 11), expected);
  EXPECT_EQ(expected.size(), 66u);
  EXPECT_EQ(expected.back(), 191);
  EXPECT_EQ(attended_distances(AttentionKind::kRow, kFullSize).size(), 33u);
  EXPECT_EQ(attended_distances(AttentionKind::kColumn, kFullSize).size(), 32u);
}

TEST(AttentionMask, RejectsAnEvenConvKernel) {
  EXPECT_THROW(attention_mask(AttentionKind::kConv, kFigure11, 4), Error);
}

}  // namespace
}  // namespace dalle
