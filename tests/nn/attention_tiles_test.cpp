#include "nn/attention_tiles.h"

#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <ATen/ops/scaled_dot_product_attention.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "core/fields.h"
#include "enum_values.h"
#include "nn/attention_mask.h"
#include "nn/attention_pattern.h"

namespace dalle {
namespace {

constexpr int64_t kConvKernel = 5;
constexpr SequenceLayout kPaper{.text_length = 256, .grid_height = 32, .grid_width = 32};
constexpr SequenceLayout kOdd{.text_length = 70, .grid_height = 9, .grid_width = 13};
constexpr SequenceLayout kShortText{.text_length = 1, .grid_height = 12, .grid_width = 11};

at::Tensor masked_attention(AttentionKind kind, const SequenceLayout& layout, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v) {
  const auto mask = attention_mask(kind, layout, kConvKernel);
  const auto additive =
      torch::zeros(mask.sizes(), q.options().requires_grad(false))
          .masked_fill_(mask.logical_not(), -std::numeric_limits<double>::infinity());
  return at::scaled_dot_product_attention(q, k, v, additive);
}

class AttentionTilesTest
    : public testing::TestWithParam<std::tuple<AttentionKind, SequenceLayout>> {
 protected:
  AttentionKind kind_ = std::get<0>(GetParam());
  SequenceLayout layout_ = std::get<1>(GetParam());
  std::shared_ptr<const AttentionTiles> tiles_ =
      std::make_shared<const AttentionTiles>(kind_, layout_, kConvKernel);
};

TEST_P(AttentionTilesTest, ContainEveryPairOfTheMaskOnce) {
  const auto positions =  // by place
      tiles_->to_order(torch::arange(layout_.length(), torch::kDouble).view({1, 1, -1, 1}))
          .flatten()
          .to(torch::kInt64);
  auto found = torch::zeros({layout_.length(), layout_.length()}, torch::kInt64);
  int64_t next = 0;
  for (const auto& tile : tiles_->tiles()) {
    EXPECT_EQ(tile.begin, next);
    EXPECT_LT(tile.begin, tile.end);
    EXPECT_LE(tile.text_keys, tile.last_begin);
    EXPECT_EQ(tile.mask.sizes(), at::IntArrayRef({tile.queries(), tile.keys()}));
    const auto keys = torch::cat(
        {positions.slice(0, 0, tile.text_keys), positions.slice(0, tile.last_begin, tile.end)});
    found.index_put_({positions.slice(0, tile.begin, tile.end).unsqueeze(1), keys.unsqueeze(0)},
                     tile.mask.eq(0).to(torch::kInt64), /*accumulate=*/true);
    next = tile.end;
  }
  EXPECT_EQ(next, layout_.length());
  EXPECT_TRUE(torch::equal(found, attention_mask(kind_, layout_, kConvKernel).to(torch::kInt64)));
}

TEST_P(AttentionTilesTest, OrderCanBeUndone) {
  const auto x = torch::randn({2, 3, layout_.length(), 4});
  EXPECT_TRUE(torch::equal(tiles_->from_order(tiles_->to_order(x), 2), x));
}

TEST_P(AttentionTilesTest, GiveTheResultAndTheGradientsOfMaskedAttention) {
  torch::manual_seed(3);
  const auto qkv =  // in memory as in SelfAttention
      torch::randn({2, layout_.length(), 3, 2, 8}, torch::kDouble).requires_grad_();
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind();
  const auto tiled = tiled_attention(tiles_, parts[0], parts[1], parts[2]);
  const auto masked = masked_attention(kind_, layout_, parts[0], parts[1], parts[2]);
  EXPECT_TRUE(torch::allclose(tiled, masked, 1e-10, 1e-12));

  const auto direction = torch::randn_like(masked);
  const auto gradient = torch::autograd::grad({tiled}, {qkv}, {direction})[0];
  const auto expected = torch::autograd::grad({masked}, {qkv}, {direction})[0];
  EXPECT_TRUE(torch::allclose(gradient, expected, 1e-9, 1e-11));
}

INSTANTIATE_TEST_SUITE_P(Layouts, AttentionTilesTest,
                         testing::Combine(testing::ValuesIn(enum_values<AttentionKind>()),
                                          testing::Values(kOdd, kShortText)),
                         [](const auto& test) {
                           return std::string(to_string(std::get<0>(test.param))) + "_" +
                                  std::to_string(std::get<1>(test.param).text_length);
                         });

TEST(AttentionTiles, OfThePaperLeaveOutMostPairs) {
  EXPECT_LT(AttentionTiles(AttentionKind::kRow, kPaper, 11).share_of_pairs(), 0.25);
  EXPECT_LT(AttentionTiles(AttentionKind::kColumn, kPaper, 11).share_of_pairs(), 0.23);
  EXPECT_LT(AttentionTiles(AttentionKind::kConv, kPaper, 11).share_of_pairs(), 0.33);
}

TEST(AttentionTiles, AreUsedForThePaperAndNotForShortSequences) {
  for (const auto& [kind, name] : enum_names(AttentionKind{})) {
    if (kind == AttentionKind::kDense) continue;
    EXPECT_NE(AttentionPattern(kind, kPaper).tiles(), nullptr) << name;
    EXPECT_EQ(AttentionPattern(kind, kShortText).tiles(), nullptr) << name;
  }
  EXPECT_EQ(AttentionPattern(AttentionKind::kDense, kPaper).tiles(), nullptr);
}

TEST(AttentionTiles, InBfloat16AreAsExactAsMaskedAttention) {
  torch::manual_seed(4);
  auto exact = torch::randn({3, 1, 2, kOdd.length(), 16}).unbind();
  exact[0] = 4 * exact[0];  // large scores
  const auto tiles = std::make_shared<const AttentionTiles>(AttentionKind::kRow, kOdd, kConvKernel);
  const auto direction = torch::randn_like(exact[0]);
  const auto results_of = [&](const auto& attention, at::ScalarType type) {
    std::vector<at::Tensor> inputs;
    for (const auto& x : exact) inputs.push_back(x.to(type).detach().requires_grad_());
    const auto out = attention(inputs[0], inputs[1], inputs[2]);
    EXPECT_EQ(out.scalar_type(), type);
    auto results = torch::autograd::grad({out}, inputs, {direction.to(type)});
    results.push_back(out.detach());
    return torch::stack(results).to(at::kFloat);
  };
  const auto masked = [&](const auto& q, const auto& k, const auto& v) {
    return masked_attention(AttentionKind::kRow, kOdd, q, k, v);
  };
  const auto tiled = [&](const auto& q, const auto& k, const auto& v) {
    return tiled_attention(tiles, q, k, v);
  };
  const auto reference = results_of(masked, at::kFloat);
  const auto error_of = [&](const at::Tensor& x) { return (x - reference).norm().item<double>(); };
  EXPECT_LT(error_of(results_of(tiled, at::kBFloat16)),
            1.1 * error_of(results_of(masked, at::kBFloat16)));
}

TEST(AttentionTiles, AreMadeOnceForSeveralThreads) {
  AttentionPattern pattern(AttentionKind::kRow, kPaper);
  std::vector<std::shared_ptr<const AttentionTiles>> tiles(4);
  std::vector<std::thread> threads;
  for (auto& found : tiles) threads.emplace_back([&] { found = pattern.tiles(); });
  for (auto& thread : threads) thread.join();
  for (const auto& found : tiles) EXPECT_EQ(found, tiles[0]);
  EXPECT_NE(tiles[0], nullptr);
}

TEST(AttentionTiles, OutliveTheirOwnerUntilTheBackwardPass) {
  const auto x = torch::randn({1, 1, kOdd.length(), 4}).requires_grad_();
  auto tiles = std::make_shared<const AttentionTiles>(AttentionKind::kRow, kOdd, kConvKernel);
  const auto out = tiled_attention(tiles, x, x, x);
  tiles.reset();
  EXPECT_TRUE(torch::autograd::grad({out.sum()}, {x})[0].isfinite().all().item<bool>());
}

}  // namespace
}  // namespace dalle
