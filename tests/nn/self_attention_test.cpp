#include "nn/self_attention.h"

#include <memory>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/fields.h"
#include "enum_values.h"
#include "nn/attention_mask.h"

namespace dalle {
namespace {

constexpr SequenceLayout kLayout{.text_length = 5, .grid_height = 4, .grid_width = 4};

SelfAttention small_attention(AttentionKind kind) {
  SelfAttention attention(SelfAttentionOptions{
      .width = 12, .heads = 3, .pattern = std::make_shared<AttentionPattern>(kind, kLayout, 3)});
  attention->initialize(at::make_generator<at::CPUGeneratorImpl>(5), 0.5, 0.5);
  attention->to(torch::kDouble);
  return attention;
}

/// The definition of self-attention: one softmax over the keys that the mask allows, query by
/// query.
at::Tensor plain_attention(const SelfAttention& attention, AttentionKind kind,
                           const at::Tensor& x) {
  const auto parameters = attention->named_parameters();
  const auto in =
      at::linear(x, parameters["query_key_value.weight"], parameters["query_key_value.bias"]);
  const auto mask = attention_mask(kind, kLayout, 3);
  const int64_t length = kLayout.length(), head_width = 4;
  auto merged = torch::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b)
    for (int64_t head = 0; head < 3; ++head)
      for (int64_t i = 0; i < length; ++i) {
        const auto part = [&](int64_t which, int64_t position) {
          return in[b][position].slice(0, which * 12 + head * head_width,
                                       which * 12 + (head + 1) * head_width);
        };
        std::vector<int64_t> keys;
        std::vector<at::Tensor> scores;
        for (int64_t j = 0; j < length; ++j)
          if (mask[i][j].item<bool>())
            keys.push_back(j), scores.push_back(part(0, i).dot(part(1, j)) / 2.0);
        const auto weights = torch::stack(scores).softmax(0);
        auto out = torch::zeros({head_width}, x.options());
        for (size_t k = 0; k < keys.size(); ++k)
          out = out + weights[static_cast<int64_t>(k)] * part(2, keys[k]);
        merged[b][i].slice(0, head * head_width, (head + 1) * head_width).copy_(out);
      }
  return at::linear(merged, parameters["output.weight"], parameters["output.bias"]);
}

class SelfAttentionTest : public testing::TestWithParam<AttentionKind> {
 protected:
  void SetUp() override { torch::manual_seed(1); }
};

TEST_P(SelfAttentionTest, EqualsItsDefinition) {
  auto attention = small_attention(GetParam());
  const auto x = torch::randn({2, kLayout.length(), 12}, torch::kDouble);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(
      torch::allclose(attention(x), plain_attention(attention, GetParam(), x), 1e-10, 1e-12));
}

TEST_P(SelfAttentionTest, GradientsMatchItsDefinition) {
  auto attention = small_attention(GetParam());
  const auto x = torch::randn({2, kLayout.length(), 12}, torch::kDouble).requires_grad_();
  const auto direction = torch::randn_like(x);
  auto inputs = attention->parameters();
  inputs.push_back(x);
  const auto gradients = torch::autograd::grad({(attention(x) * direction).sum()}, inputs);
  const auto expected = torch::autograd::grad(
      {(plain_attention(attention, GetParam(), x) * direction).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_TRUE(torch::allclose(gradients[i], expected[i], 1e-9, 1e-11)) << i;
}

TEST_P(SelfAttentionTest, StatesDependOnlyOnTheirPattern) {
  auto attention = small_attention(GetParam());
  const auto mask = attention_mask(GetParam(), kLayout, 3);
  const auto x = torch::randn({1, kLayout.length(), 12}, torch::kDouble);
  const torch::NoGradGuard no_grad;
  const auto before = attention(x);
  for (int64_t changed = 0; changed < kLayout.length(); ++changed) {
    auto other = x.clone();
    other[0][changed] += torch::randn({12}, torch::kDouble);
    const auto moved = (attention(other) - before).abs().amax(2)[0];  // [length]
    for (int64_t query = 0; query < kLayout.length(); ++query)
      EXPECT_EQ(moved[query].item<double>() > 1e-12, mask[query][changed].item<bool>())
          << "query " << query << ", key " << changed;
  }
}

/// The states of a sequence, those of the image one at a time.
at::Tensor decode(SelfAttention& attention, AttentionPattern& pattern, const at::Tensor& x) {
  const SequenceLayout& layout = pattern.layout();
  KvCache cache;
  std::vector<at::Tensor> states{attention->prefill(x.slice(1, 0, layout.text_length), cache)};
  // What is not filled yet must not matter.
  for (at::Tensor* tensor : {&cache.keys, &cache.values})
    tensor->slice(2, layout.text_length).fill_(100);
  for (int64_t i = 0; i < layout.image_length(); ++i)
    states.push_back(
        attention->decode_step(x.narrow(1, layout.text_length + i, 1),
                               pattern.attended_keys(torch::tensor({i}), x.scalar_type()), cache));
  return torch::cat(states, 1);
}

TEST_P(SelfAttentionTest, CachedEqualsUncached) {
  auto attention = small_attention(GetParam());
  AttentionPattern pattern(GetParam(), kLayout, 3);
  const torch::NoGradGuard no_grad;
  for (const int64_t batch : {1, 3}) {
    const auto x = torch::randn({batch, kLayout.length(), 12}, torch::kDouble);
    EXPECT_TRUE(torch::allclose(decode(attention, pattern, x), attention(x), 1e-10, 1e-12));
  }
}

std::vector<AttentionKind> kinds_with_tiles() {
  std::vector<AttentionKind> kinds = enum_values<AttentionKind>();
  std::erase(kinds, AttentionKind::kDense);
  return kinds;
}

/// With a layout whose tiles are used.
class TiledSelfAttentionTest : public testing::TestWithParam<AttentionKind> {
 protected:
  static constexpr SequenceLayout kLong{.text_length = 16, .grid_height = 32, .grid_width = 16};

  void SetUp() override {
    torch::manual_seed(1);
    ASSERT_NE(pattern_->tiles(), nullptr);
    attention_->initialize(at::make_generator<at::CPUGeneratorImpl>(5), 0.5, 0.5);
    attention_->to(torch::kDouble);
  }

  std::shared_ptr<AttentionPattern> pattern_ =
      std::make_shared<AttentionPattern>(GetParam(), kLong, 3);
  SelfAttention attention_{SelfAttentionOptions{.width = 12, .heads = 3, .pattern = pattern_}};
};

TEST_P(TiledSelfAttentionTest, EqualsMaskedAttention) {
  const auto x = torch::randn({2, kLong.length(), 12}, torch::kDouble).requires_grad_();
  const auto parameters = attention_->named_parameters();
  const auto parts =
      at::linear(x, parameters["query_key_value.weight"], parameters["query_key_value.bias"])
          .view({2, kLong.length(), 3, 3, 4})
          .permute({2, 0, 3, 1, 4})
          .unbind();
  const auto attended =
      at::scaled_dot_product_attention(parts[0], parts[1], parts[2], pattern_->additive_mask(x));
  const auto expected = at::linear(attended.transpose(1, 2).flatten(2), parameters["output.weight"],
                                   parameters["output.bias"]);
  const auto actual = attention_(x);
  EXPECT_TRUE(torch::allclose(actual, expected, 1e-10, 1e-12));

  auto inputs = attention_->parameters();
  inputs.push_back(x);
  const auto direction = torch::randn_like(x);
  const auto gradients = torch::autograd::grad({actual}, inputs, {direction});
  const auto expected_gradients = torch::autograd::grad({expected}, inputs, {direction});
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_TRUE(torch::allclose(gradients[i], expected_gradients[i], 1e-9, 1e-11)) << i;
}

TEST_P(TiledSelfAttentionTest, CachedEqualsUncached) {
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({2, kLong.length(), 12}, torch::kDouble);
  EXPECT_TRUE(torch::allclose(decode(attention_, *pattern_, x), attention_(x), 1e-10, 1e-12));
}

INSTANTIATE_TEST_SUITE_P(Kinds, TiledSelfAttentionTest, testing::ValuesIn(kinds_with_tiles()),
                         kEnumName);

INSTANTIATE_TEST_SUITE_P(Kinds, SelfAttentionTest, testing::ValuesIn(enum_values<AttentionKind>()),
                         kEnumName);

TEST(SelfAttention, RejectsHeadsThatDoNotDivideTheWidth) {
  const auto pattern = std::make_shared<AttentionPattern>(AttentionKind::kRow, kLayout);
  EXPECT_THROW(SelfAttention(SelfAttentionOptions{.width = 10, .heads = 3, .pattern = pattern}),
               Error);
}

}  // namespace
}  // namespace dalle
