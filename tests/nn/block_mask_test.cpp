#include "nn/gpu/block_mask.h"

#include <string>
#include <tuple>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "block_mask_pairs.h"
#include "core/fields.h"
#include "enum_values.h"
#include "nn/attended_runs.h"
#include "nn/attention_blocks.h"
#include "nn/attention_mask.h"

namespace dalle {
namespace {

constexpr int64_t kWindow = 5;
constexpr KernelRows kRows{.forward = 128, .backward_queries = 64, .backward_keys = 32};
constexpr SequenceLayout kPaperLayout{.text_length = 256, .grid_height = 32, .grid_width = 32};
constexpr SequenceLayout kOddLayout{.text_length = 70, .grid_height = 9, .grid_width = 13};

TEST(BlockMask, HasEveryPairOnceWhateverTheSizes) {
  torch::manual_seed(1);
  for (const auto& [rows, columns, block] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 32},
                                             {64, 128, 32},
                                             {130, 70, 64},
                                             {100, 257, 128}}) {
    auto mask = torch::rand({rows, columns}) < 0.5;
    mask.slice(1, 0, 64).slice(0, 0, 64).fill_(true);  // a block that may be full
    mask.slice(1, 64, 200).slice(0, 32).fill_(false);  // and some without a pair
    const auto blocks = make_block_mask(mask, block);
    EXPECT_TRUE(torch::equal(pairs_of(blocks, rows, columns), mask.to(torch::kInt64)))
        << rows << " " << columns << " " << block;
  }
}

TEST(BlockMask, LeavesOutEmptyBlocksAndTakesWholeOnesAsFull) {
  auto mask = torch::zeros({96, 192}, torch::kBool);
  mask.slice(1, 64, 128).fill_(true);
  mask[95][191] = true;
  const auto blocks = make_block_mask(mask, 64);  // the second block has 32 rows
  EXPECT_TRUE(torch::equal(blocks.ranges,
                           torch::tensor({0, 1, 0, 0, 1, 2, 0, 1}, torch::kInt).view({2, 4})));
  EXPECT_TRUE(torch::equal(blocks.full, torch::tensor({1, 1}, torch::kInt)));
  EXPECT_TRUE(torch::equal(blocks.partial, torch::tensor({2}, torch::kInt)));
  EXPECT_EQ((blocks.masks[0][1][31].item<int32_t>()), INT32_MIN);  // row 95, column 191
  EXPECT_EQ(blocks.masks.count_nonzero().item<int64_t>(), 1);
}

class BlockSparsePatternTest
    : public testing::TestWithParam<std::tuple<AttentionKind, SequenceLayout>> {};

TEST_P(BlockSparsePatternTest, HasThePairsOfTheMask) {
  const auto& [kind, layout] = GetParam();
  const BlockSparsePattern pattern = block_sparse_pattern(kind, layout, kWindow, kRows, at::kCPU);
  const auto positions = positions_of(pattern);
  const auto mask = attention_mask(kind, layout, kWindow)
                        .index_select(0, positions)
                        .index_select(1, positions)
                        .to(torch::kInt64);
  const int64_t length = layout.length();
  EXPECT_TRUE(torch::equal(std::get<0>(positions.sort()), torch::arange(length)));
  EXPECT_TRUE(torch::equal(pairs_of(pattern.forward, length, length), mask));
  EXPECT_TRUE(torch::equal(pairs_of(pattern.backward_queries, length, length), mask));
  EXPECT_TRUE(torch::equal(pairs_of(pattern.backward_keys, length, length), mask.t()));
  EXPECT_EQ(pattern.forward.ranges.size(0), (length + 127) / 128);
  EXPECT_EQ(pattern.backward_keys.ranges.size(0), (length + 31) / 32);
}

TEST_P(BlockSparsePatternTest, IsInTheOrderOfAttendedRuns) {
  const auto& [kind, layout] = GetParam();
  const BlockSparsePattern pattern = block_sparse_pattern(kind, layout, kWindow, kRows, at::kCPU);
  const AttendedRuns runs(kind, layout, kWindow);
  const auto positions = positions_of(pattern);
  for (int64_t position = 0; position < layout.image_length(); ++position) {
    const int64_t place = layout.text_length + runs.cell(position);
    EXPECT_EQ(positions[place].item<int64_t>(), layout.text_length + position);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, BlockSparsePatternTest,
                         testing::Combine(testing::ValuesIn(enum_values<AttentionKind>()),
                                          testing::Values(kOddLayout, kPaperLayout)),
                         [](const auto& test) {
                           return std::string(to_string(std::get<0>(test.param))) + "_" +
                                  std::to_string(std::get<1>(test.param).text_length);
                         });

TEST(BlockSparsePattern, OfThePaperComputesLessThanFourTenthsOfAllPairs) {
  for (const auto kind : {AttentionKind::kRow, AttentionKind::kColumn, AttentionKind::kConv}) {
    const BlockSparsePattern pattern =
        block_sparse_pattern(kind, kPaperLayout, 11, KernelRows{128, 128, 128}, at::kCPU);
    const int64_t blocks = pattern.forward.full.numel() + pattern.forward.partial.numel();
    EXPECT_LT(static_cast<double>(blocks * 128 * 64), 0.4 * 1280 * 1280) << to_string(kind);
  }
}

}  // namespace
}  // namespace dalle
