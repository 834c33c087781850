#include "nn/residual_block.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes shapes_of(const ResidualBlock& block) {
  Shapes shapes;
  for (const auto& parameter : block->named_parameters())
    shapes[parameter.key()] = parameter.value().sizes().vec();
  return shapes;
}

ResidualBlock random_block(ResidualBlockOptions options) {
  ResidualBlock block(options);
  block->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  block->to(at::kDouble);
  return block;
}

at::Tensor random_input(int64_t channels) {
  return torch::randn({2, channels, 4, 6}, at::make_generator<at::CPUGeneratorImpl>(4),
                      at::TensorOptions(at::kDouble));
}

TEST(ResidualBlockTest, EncoderBlockEndsInTheOneByOneConvolution) {
  const ResidualBlock block(ResidualBlockOptions{
      .kind = ResidualBlockKind::kEncoder, .in_channels = 512, .out_channels = 1024});
  EXPECT_EQ(shapes_of(block), (Shapes{{"id_path.w", {1024, 512, 1, 1}},
                                      {"id_path.b", {1024}},
                                      {"res_path.conv_1.w", {256, 512, 3, 3}},
                                      {"res_path.conv_1.b", {256}},
                                      {"res_path.conv_2.w", {256, 256, 3, 3}},
                                      {"res_path.conv_2.b", {256}},
                                      {"res_path.conv_3.w", {256, 256, 3, 3}},
                                      {"res_path.conv_3.b", {256}},
                                      {"res_path.conv_4.w", {1024, 256, 1, 1}},
                                      {"res_path.conv_4.b", {1024}}}));
}

TEST(ResidualBlockTest, DecoderBlockMirrorsTheEncoderBlock) {
  const ResidualBlock block(ResidualBlockOptions{
      .kind = ResidualBlockKind::kDecoder, .in_channels = 128, .out_channels = 2048});
  EXPECT_EQ(shapes_of(block), (Shapes{{"id_path.w", {2048, 128, 1, 1}},
                                      {"id_path.b", {2048}},
                                      {"res_path.conv_1.w", {512, 128, 1, 1}},
                                      {"res_path.conv_1.b", {512}},
                                      {"res_path.conv_2.w", {512, 512, 3, 3}},
                                      {"res_path.conv_2.b", {512}},
                                      {"res_path.conv_3.w", {512, 512, 3, 3}},
                                      {"res_path.conv_3.b", {512}},
                                      {"res_path.conv_4.w", {2048, 512, 3, 3}},
                                      {"res_path.conv_4.b", {2048}}}));
}

TEST(ResidualBlockTest, IdPathIsTheIdentityIfChannelsDoNotChange) {
  ResidualBlock block(ResidualBlockOptions{.in_channels = 8, .out_channels = 8, .post_gain = 0.0});
  block->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  EXPECT_FALSE(block->named_parameters().contains("id_path.w"));
  const auto x = torch::randn({1, 8, 4, 4});
  const auto before = x.clone();
  EXPECT_TRUE(torch::equal(block(x), before));
  EXPECT_TRUE(torch::equal(x, before)) << "the input must not be overwritten";
}

TEST(ResidualBlockTest, ScalesTheResidualPathByThePostGain) {
  for (const int64_t in : {8, 12}) {
    const auto output = [&](double post_gain) {
      return random_block({.in_channels = in, .out_channels = 8, .post_gain = post_gain})(
          random_input(in));
    };
    const auto residual = output(1.0) - output(0.0);
    EXPECT_GT(residual.abs().max().item<double>(), 0.01);
    EXPECT_TRUE(torch::allclose(output(0.25), output(0.0) + 0.25 * residual, 1e-12, 1e-12));
  }
}

TEST(ResidualBlockTest, UpsamplingInsideTheBlockEqualsUpsamplingBeforeIt) {
  auto block = random_block({.kind = ResidualBlockKind::kDecoder,
                             .in_channels = 16,
                             .out_channels = 8,
                             .post_gain = 0.5});
  const auto gradients = [&](const auto& forward) {
    auto x = random_input(16).requires_grad_();
    const auto y = forward(x);
    const auto direction = torch::arange(y.numel(), y.options()).view(y.sizes()).sin();
    block->zero_grad();
    (y * direction).sum().backward();
    std::vector<at::Tensor> results{y.detach(), x.grad()};
    for (const auto& parameter : block->parameters()) results.push_back(parameter.grad().clone());
    return results;
  };
  const auto inside = gradients([&](const auto& x) { return block->forward_upsampled(x); });
  const auto before = gradients([&](const auto& x) {
    return block->forward(x.repeat_interleave(2, 2).repeat_interleave(2, 3));
  });
  ASSERT_EQ(inside.size(), before.size());
  ASSERT_EQ(inside[0].sizes(), (std::vector<int64_t>{2, 8, 8, 12}));
  for (size_t i = 0; i < inside.size(); ++i)
    EXPECT_TRUE(torch::allclose(inside[i], before[i], 1e-10, 1e-10)) << i;
}

}  // namespace
}  // namespace dalle
