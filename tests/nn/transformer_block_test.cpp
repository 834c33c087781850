#include "nn/transformer_block.h"

#include <cmath>
#include <memory>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/fields.h"
#include "nn/recompute.h"

namespace dalle {
namespace {

constexpr SequenceLayout kBlockLayout{.text_length = 3, .grid_height = 2, .grid_width = 2};

TransformerBlock small_block(double dropout, Activation activation = Activation::kGelu) {
  TransformerBlock block(TransformerBlockOptions{
      .attention = {.width = 8,
                    .heads = 2,
                    .pattern =
                        std::make_shared<AttentionPattern>(AttentionKind::kRow, kBlockLayout)},
      .activation = activation,
      .dropout = dropout});
  block->initialize(at::make_generator<at::CPUGeneratorImpl>(7), {.scale = 1.0});
  return block;
}

TEST(TransformerBlock, IsTheIdentityIfItsBranchesEndInZeros) {
  auto block = small_block(0);
  block->initialize(at::make_generator<at::CPUGeneratorImpl>(7),
                    {.scale = 1.0, .residual_scale = 0.0});
  const auto x = torch::randn({2, kBlockLayout.length(), 8});
  EXPECT_TRUE(torch::equal(block->forward(x, 0), x));
}

TEST(TransformerBlock, FollowsItsEquations) {
  torch::manual_seed(1);
  for (const auto activation : {Activation::kGelu, Activation::kQuickGelu}) {
    auto block = small_block(0, activation);
    block->to(torch::kDouble);
    const auto x = torch::randn({1, kBlockLayout.length(), 8}, torch::kDouble);
    const auto p = block->named_parameters();
    const auto norm = [](const at::Tensor& h) {
      const auto centred = h - h.mean(-1, true);
      return centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
    };
    const auto h =
        x + block->named_modules()["attention"]->as<SelfAttentionImpl>()->forward(norm(x));
    const auto inner = at::linear(norm(h), p["expand.weight"], p["expand.bias"]);
    const auto active = activation == Activation::kGelu
                            ? inner * 0.5 * (1 + (inner / std::sqrt(2.0)).erf())
                            : inner / (1 + (-1.702 * inner).exp());
    const auto expected = h + at::linear(active, p["contract.weight"], p["contract.bias"]);
    EXPECT_TRUE(torch::allclose(block->forward(x, 0), expected, 1e-9, 1e-10))
        << to_string(activation);
  }
}

TEST(TransformerBlock, DropoutDependsOnItsSeedAndIsOffInEvaluation) {
  auto block = small_block(0.5);
  const auto x = torch::randn({4, kBlockLayout.length(), 8});
  EXPECT_TRUE(torch::equal(block->forward(x, 1), block->forward(x, 1)));
  EXPECT_FALSE(torch::equal(block->forward(x, 1), block->forward(x, 2)));
  block->eval();
  EXPECT_TRUE(torch::equal(block->forward(x, 1), block->forward(x, 2)));
}

TEST(Recompute, GivesTheSameBitsAsAPlainCallEvenWithDropout) {
  for (const double dropout : {0.0, 0.3}) {
    auto block = small_block(dropout);
    const auto layer = [&](const at::Tensor& h) { return block->forward(h, 9); };
    const auto x = torch::randn({2, kBlockLayout.length(), 8}).requires_grad_();
    const auto plain = layer(x);
    plain.square().sum().backward();
    std::vector<at::Tensor> gradients{x.grad().clone()};
    for (const auto& parameter : block->parameters()) gradients.push_back(parameter.grad().clone());
    x.mutable_grad().zero_();
    for (const auto& parameter : block->parameters()) parameter.grad().zero_();

    const auto again = recompute(layer, x);
    EXPECT_TRUE(torch::equal(again, plain));
    again.square().sum().backward();
    EXPECT_TRUE(torch::equal(x.grad(), gradients[0]));
    for (size_t i = 0; i < block->parameters().size(); ++i)
      EXPECT_TRUE(torch::equal(block->parameters()[i].grad(), gradients[i + 1])) << i;
  }
}

TEST(Recompute, GivesParameterGradientsIfTheInputNeedsNone) {
  auto block = small_block(0);
  const auto x = torch::randn({2, kBlockLayout.length(), 8});
  recompute([&](const at::Tensor& h) { return block->forward(h, 0); }, x).square().sum().backward();
  for (const auto& item : block->named_parameters())
    EXPECT_TRUE(item.value().grad().defined()) << item.key();
}

TEST(Recompute, CallsTheLayerOnceIfNoGradientIsRequired) {
  int calls = 0;
  const auto x = torch::randn({2}).requires_grad_();
  const torch::NoGradGuard no_grad;
  const auto y = recompute(
      [&](const at::Tensor& h) {
        ++calls;
        return h * 2;
      },
      x);
  EXPECT_TRUE(torch::equal(y, x * 2));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace dalle
