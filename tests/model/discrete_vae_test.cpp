#include "model/discrete_vae.h"

#include <cmath>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "model/plain_discrete_vae.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using Sizes = std::vector<int64_t>;

constexpr double kTemperature = 0.6;
constexpr double kKlWeight = 6.6;

at::Generator seeded(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

// A model with random biases, so that omitting one would be noticed. They are mostly positive, so
// that no ReLU is dead.
DiscreteVae random_model(const DiscreteVaeConfig& config,
                         Precision precision = Precision::kFloat32) {
  DiscreteVae vae(config, precision);
  vae->initialize(seeded(1));
  const torch::NoGradGuard no_grad;
  auto generator = seeded(2);
  for (auto& parameter : vae->named_parameters())
    if (parameter.key().ends_with(".b")) parameter.value().normal_(0.2, 0.3, generator);
  return vae;
}

at::Tensor random_images(int64_t batch, int64_t height, int64_t width,
                         at::ScalarType type = at::kFloat) {
  return torch::rand({batch, 3, height, width}, seeded(3), at::TensorOptions(type));
}

std::vector<uint64_t> first_seeds(int64_t count) {
  std::vector<uint64_t> seeds(static_cast<size_t>(count));
  std::iota(seeds.begin(), seeds.end(), 100);
  return seeds;
}

at::Tensor one_hot_maps(const at::Tensor& codes, int64_t vocab_size) {
  return at::one_hot(codes, vocab_size).permute({0, 3, 1, 2}).to(at::kFloat);
}

struct Shape {
  std::string name;
  DiscreteVaeConfig config;
  int64_t height, width;
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.name;
}

class DiscreteVaeShapesTest : public testing::TestWithParam<Shape> {};

TEST_P(DiscreteVaeShapesTest, EqualsThePlainImplementationForwardAndBackward) {
  const auto& [name, config, height, width] = GetParam();
  auto vae = random_model(config);
  vae->to(at::kDouble);
  const auto plain = plain_copy(vae);
  const auto images = random_images(2, height, width, at::kDouble);
  const auto noise = vae->noise(first_seeds(2), height, width).to(at::kDouble);

  EXPECT_TRUE(torch::allclose(vae->logits(images), plain.logits(images), 1e-10, 1e-10));
  const auto loss = vae->loss(images, {noise, kTemperature, kKlWeight});
  const auto expected = plain.loss(images, noise, kTemperature, kKlWeight);
  EXPECT_NEAR(loss.total.item<double>(), expected.item<double>(), 1e-10);

  loss.total.backward();
  expected.backward();
  for (const auto& parameter : vae->named_parameters()) {
    const auto& gradient = parameter.value().grad();
    ASSERT_TRUE(gradient.defined()) << parameter.key();
    EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << parameter.key();
    EXPECT_TRUE(torch::allclose(gradient, plain.weights.at(parameter.key()).grad(), 1e-8, 1e-12))
        << parameter.key();
  }
}

TEST_P(DiscreteVaeShapesTest, DecodesCodesLikeTheirOneHotVectors) {
  const auto& [name, config, height, width] = GetParam();
  auto vae = random_model(config);
  const auto codes = vae->encode(random_images(3, height, width));
  const int64_t factor = int64_t{1} << (config.groups - 1);
  ASSERT_EQ(codes.sizes(), (Sizes{3, height / factor, width / factor}));
  ASSERT_EQ(codes.scalar_type(), at::kLong);
  const auto images = vae->decode(codes);
  ASSERT_EQ(images.sizes(), (Sizes{3, 3, height, width}));
  EXPECT_EQ(images.scalar_type(), at::kFloat);
  const auto hot = one_hot_maps(codes, config.vocab_size);
  EXPECT_TRUE(torch::allclose(images, plain_copy(vae).image(hot), 1e-5, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Shapes, DiscreteVaeShapesTest,
                         testing::Values(Shape{"two_groups_of_two",
                                               {.groups = 2,
                                                .blocks_per_group = 2,
                                                .hidden = 16,
                                                .vocab_size = 11,
                                                .codebook_width = 6},
                                               8,
                                               8},
                                         Shape{"one_group_of_three_not_square",
                                               {.groups = 1,
                                                .blocks_per_group = 3,
                                                .hidden = 20,
                                                .vocab_size = 7,
                                                .codebook_width = 5},
                                               5,
                                               9},
                                         Shape{"three_groups_with_a_codebook_as_wide_as_the_first",
                                               {.groups = 3,
                                                .blocks_per_group = 1,
                                                .hidden = 16,
                                                .vocab_size = 5,
                                                .codebook_width = 64},
                                               8,
                                               12},
                                         Shape{"given_post_gain",
                                               {.groups = 2,
                                                .blocks_per_group = 1,
                                                .hidden = 16,
                                                .vocab_size = 2,
                                                .codebook_width = 1,
                                                .post_gain = 0.7},
                                               4,
                                               6}),
                         [](const auto& test) { return test.param.name; });

constexpr DiscreteVaeConfig kSmall{
    .groups = 2, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8};

TEST(DiscreteVaeTest, GradientMatchesFiniteDifferences) {
  auto vae = random_model(kSmall);
  vae->to(at::kDouble);
  const auto images = random_images(1, 6, 6, at::kDouble);
  const auto noise = vae->noise(first_seeds(1), 6, 6).to(at::kDouble);
  const auto total = [&] { return vae->loss(images, {noise, kTemperature, kKlWeight}).total; };
  total().backward();
  const torch::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  for (const auto& parameter : vae->named_parameters()) {
    auto value = parameter.value();
    const auto direction =
        torch::randn(value.sizes(), seeded(4), value.options().requires_grad(false));
    value.add_(direction, kStep);
    const double above = total().item<double>();
    value.add_(direction, -2 * kStep);
    const double below = total().item<double>();
    value.add_(direction, kStep);
    const double slope = (value.grad() * direction).sum().item<double>();
    EXPECT_NEAR((above - below) / (2 * kStep), slope, 1e-6 + 1e-4 * std::abs(slope))
        << parameter.key();
  }
}

TEST(DiscreteVaeTest, WeightsTheKlPerDimensionLikeThePaper) {
  // With 256 pixels and four groups, the KL per position has the factor 1/192: a deterministic
  // posterior over 8192 codes adds 6.6 * 9.0109 / 192 = 0.3098 to the loss.
  const DiscreteVaeConfig config{.blocks_per_group = 1, .hidden = 4, .codebook_width = 4};
  DiscreteVae vae(config);
  const torch::NoGradGuard no_grad;
  vae->named_parameters()["encoder.blocks.output.conv.b"][3] = 1000.0;
  const auto loss =
      vae->evaluate(random_images(1, 256, 256), {torch::zeros({1, 8192, 32, 32}), 1, kKlWeight})
          .loss;
  EXPECT_NEAR(loss.kl.item<double>(), 9.0109, 1e-4);
  EXPECT_NEAR((loss.total - loss.reconstruction).item<double>(), 0.3098, 1e-4);
  // Zero weights predict a mean of 0 and ln b = 0, whose likelihood for uniform pixels is known.
  EXPECT_NEAR(loss.reconstruction.item<double>(), -0.048107, 0.01);
}

TEST(DiscreteVaeTest, MicroBatchesAverageToTheBatch) {
  auto vae = random_model(kSmall);
  const auto images = random_images(4, 8, 8);
  const auto seeds = first_seeds(4);
  const auto loss_of = [&](int64_t begin, int64_t end) {
    const auto some = std::span(seeds).subspan(begin, end - begin);
    return vae->loss(images.slice(0, begin, end), {vae->noise(some, 8, 8), kTemperature, kKlWeight})
        .total.item<double>();
  };
  EXPECT_NEAR(loss_of(0, 4), (loss_of(0, 1) + 3 * loss_of(1, 4)) / 4, 1e-5);
}

TEST(DiscreteVaeTest, EvaluatesHardCodesWhichAreTheLimitOfTheRelaxation) {
  auto vae = random_model(kSmall);
  vae->to(at::kDouble);
  const auto images = random_images(2, 8, 8, at::kDouble);
  const auto no_noise = torch::zeros({2, 16, 4, 4}, at::kDouble);
  const auto evaluation = vae->evaluate(images, {no_noise, 1, kKlWeight});
  const DvaeLoss& hard = evaluation.loss;
  const auto relaxed = vae->loss(images, {no_noise, 1e-9, kKlWeight});
  EXPECT_NEAR(hard.total.item<double>(), relaxed.total.item<double>(), 1e-6);
  EXPECT_NEAR(hard.kl.item<double>(), relaxed.kl.item<double>(), 1e-12);
  EXPECT_FALSE(hard.total.requires_grad());
  EXPECT_TRUE(torch::equal(evaluation.codes, vae->encode(images)));
  EXPECT_TRUE(torch::equal(evaluation.hard_images, vae->decode(evaluation.codes)));
  EXPECT_TRUE(torch::allclose(evaluation.soft_images,
                              plain_copy(vae).image(vae->logits(images).softmax(1)), 1e-9, 1e-12));
}

TEST(DiscreteVaeTest, StraightThroughLossEqualsTheHardLossAndTrainsTheEncoder) {
  auto vae = random_model(kSmall);
  vae->to(at::kDouble);
  const auto images = random_images(2, 8, 8, at::kDouble);
  const auto loss = vae->loss(images, {.kl_weight = 0});
  const auto hard_loss = [&] {
    const auto no_noise = torch::zeros({2, 16, 4, 4}, at::kDouble);
    return vae->evaluate(images, {no_noise, 1, /*kl_weight=*/0}).loss.total.item<double>();
  };
  EXPECT_NEAR(loss.total.item<double>(), hard_loss(), 1e-12);
  loss.total.backward();
  for (const auto& parameter : vae->named_parameters())
    EXPECT_GT(parameter.value().grad().abs().sum().item<double>(), 0) << parameter.key();

  // The decoder's gradient equals that of the hard loss.
  at::Tensor bias = vae->named_parameters()["decoder.blocks.output.conv.b"];
  const double slope = bias.grad()[0].item<double>();
  constexpr double kStep = 1e-6;
  const auto moved_loss = [&](double step) {
    const torch::NoGradGuard no_grad;
    bias[0] += step;
    const double moved = hard_loss();
    bias[0] -= step;
    return moved;
  };
  EXPECT_NEAR((moved_loss(kStep) - moved_loss(-kStep)) / (2 * kStep), slope, 1e-6);
}

TEST(DiscreteVaeTest, LogScaleFloorLimitsTheScaleButNotTheMean) {
  auto config = kSmall;
  config.log_scale_floor = -1.0;
  DiscreteVae vae(config);
  auto bias = vae->named_parameters()["decoder.blocks.output.conv.b"];
  {
    const torch::NoGradGuard no_grad;
    bias.slice(0, 3, 6).copy_(torch::tensor({-5.0, -0.5, -5.0}));
  }
  const auto images = random_images(1, 4, 4).to(at::kFloat);
  const auto noise = vae->noise(first_seeds(1), 4, 4);
  const auto loss = vae->loss(images, {noise, 1.0, 0.0});
  const auto x = 0.8 * images + 0.1;
  const auto log_scale = torch::tensor({-1.0, -0.5, -1.0}).view({1, 3, 1, 1});
  const auto expected = ((x / (1 - x)).log().abs() / log_scale.exp() + log_scale + std::log(2.0) +
                         (x * (1 - x)).log())
                            .mean();
  EXPECT_NEAR(loss.reconstruction.item<double>(), expected.item<double>(), 1e-5);
  loss.total.backward();
  const at::Tensor& gradient = bias.grad();
  EXPECT_TRUE((gradient.slice(0, 0, 3) != 0).all().item<bool>());
  EXPECT_EQ(gradient[3].item<double>(), 0.0);
  EXPECT_NE(gradient[4].item<double>(), 0.0);
  EXPECT_EQ(gradient[5].item<double>(), 0.0);
}

TEST(DiscreteVaeTest, EncodesTheMostLikelyCodeWithoutGradient) {
  auto vae = random_model(kSmall);
  const auto images = random_images(3, 8, 8);
  const auto logits = vae->logits(images);
  EXPECT_EQ(logits.sizes(), (Sizes{3, 16, 4, 4}));
  EXPECT_TRUE(logits.requires_grad());
  EXPECT_TRUE(torch::equal(vae->encode(images), logits.argmax(1)));
  EXPECT_FALSE(vae->decode(vae->encode(images)).requires_grad());
}

TEST(DiscreteVaeTest, SampledCodesFollowThePosteriorAndDependOnTheImageOnly) {
  DiscreteVae vae(DiscreteVaeConfig{
      .groups = 1, .blocks_per_group = 1, .hidden = 4, .vocab_size = 3, .codebook_width = 4});
  const auto probabilities = torch::tensor({0.2, 0.3, 0.5});
  {
    const torch::NoGradGuard no_grad;
    vae->named_parameters()["encoder.blocks.output.conv.b"].copy_(probabilities.log());
  }
  const auto images = random_images(4, 64, 64);
  const auto seeds = first_seeds(4);
  const auto codes = vae->sample_codes(images, seeds);
  const auto shares = codes.flatten().bincount({}, 3).to(at::kFloat) / codes.numel();
  EXPECT_TRUE(torch::allclose(shares, probabilities, 0.0, 0.015)) << shares;
  const auto alone = vae->sample_codes(images.slice(0, 2, 3), std::span(seeds).subspan(2, 1));
  EXPECT_TRUE(torch::equal(codes.slice(0, 2, 3), alone));
}

TEST(DiscreteVaeTest, DoesNotDependOnTheMemoryLayoutOfTheImages) {
  auto vae = random_model(kSmall);
  const auto images = random_images(2, 8, 8);
  const auto channels_last = images.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(torch::equal(vae->logits(images), vae->logits(channels_last)));
}

TEST(DiscreteVaeTest, Bfloat16StaysCloseToFloat32) {
  auto exact = random_model(kSmall);
  auto rounded = random_model(kSmall, Precision::kBfloat16);
  const auto images = random_images(2, 8, 8);
  const auto noise = exact->noise(first_seeds(2), 8, 8);
  EXPECT_EQ(rounded->logits(images).scalar_type(), at::kFloat);
  EXPECT_TRUE(torch::allclose(rounded->logits(images), exact->logits(images), 0.05, 0.05));
  EXPECT_FALSE(torch::equal(rounded->logits(images), exact->logits(images)));
  const auto exact_loss = exact->loss(images, {noise, 1.0, kKlWeight});
  const auto rounded_loss = rounded->loss(images, {noise, 1.0, kKlWeight});
  EXPECT_NEAR(rounded_loss.total.item<double>(), exact_loss.total.item<double>(), 0.02);
  exact_loss.total.backward();
  rounded_loss.total.backward();
  const auto expected = exact->named_parameters();
  for (const auto& parameter : rounded->named_parameters()) {
    const auto gradient = parameter.value().grad().flatten();
    const auto reference = expected[parameter.key()].grad().flatten();
    EXPECT_EQ(gradient.scalar_type(), at::kFloat);
    EXPECT_GT(at::cosine_similarity(gradient, reference, 0).item<double>(), 0.98)
        << parameter.key();
  }
}

TEST(DiscreteVaeTest, KeepsTheConvolutionsNextToTheRelaxationInFloat32) {
  DiscreteVae vae(kSmall, Precision::kBfloat16);
  const float unrounded = 1.00123F;  // between two bfloat16 numbers
  {
    const torch::NoGradGuard no_grad;
    vae->named_parameters()["encoder.blocks.output.conv.b"].fill_(unrounded);
  }
  EXPECT_EQ(vae->logits(random_images(1, 4, 4)).min().item<float>(), unrounded);

  // If the decoder's first convolution were rounded, w + b would differ from the float32 sum. The
  // relaxation is a one-hot vector here.
  auto decoder = random_model(kSmall, Precision::kBfloat16);
  const auto evaluation =
      decoder->evaluate(random_images(3, 8, 8), {torch::zeros({3, 16, 4, 4}), 1e-30, kKlWeight});
  EXPECT_TRUE(torch::equal(evaluation.hard_images, evaluation.soft_images));
}

TEST(DiscreteVaeTest, RejectsImagesOfTheWrongTypeOrShape) {
  DiscreteVae vae(DiscreteVaeConfig{
      .groups = 3, .blocks_per_group = 1, .hidden = 4, .vocab_size = 5, .codebook_width = 4});
  for (const auto& images : {torch::zeros({3, 8, 8}), torch::zeros({1, 4, 8, 8}),
                             torch::zeros({1, 3, 8, 10}), torch::zeros({1, 3, 6, 8}),
                             torch::zeros({1, 3, 8, 8}, at::kByte), torch::zeros({0, 3, 8, 8})})
    EXPECT_THAT([&] { vae->encode(images); },
                ThrowsMessage<Error>(HasSubstr("expected Float [B, 3, H, W] with H and W multiples "
                                               "of 4")));
  EXPECT_THAT(
      [&] {
        vae->logits(torch::zeros({1, 3, 8, 10}));
      },
      ThrowsMessage<Error>(HasSubstr("images: found Float [1, 3, 8, 10]")));
}

TEST(DiscreteVaeTest, RejectsInvalidCodes) {
  DiscreteVae vae(kSmall);
  const auto codes = torch::zeros({1, 2, 2}, at::kLong);
  EXPECT_THAT(
      [&] { vae->decode(codes.to(at::kInt)); },
      ThrowsMessage<Error>(HasSubstr("codes: found Int [1, 2, 2], expected Long [B, h, w]")));
  EXPECT_THAT([&] { vae->decode(codes[0]); }, ThrowsMessage<Error>(HasSubstr("found Long [2, 2]")));
  EXPECT_THAT([&] { vae->decode(codes + 16); },
              ThrowsMessage<Error>(HasSubstr("from 16 to 16, expected values in [0, 16)")));
  EXPECT_THAT([&] { vae->decode(codes - 1); }, ThrowsMessage<Error>(HasSubstr("from -1 to -1")));
  EXPECT_EQ(vae->decode(torch::zeros({0, 2, 2}, at::kLong)).size(0), 0);
}

TEST(DiscreteVaeTest, RejectsInvalidNoiseAndTemperatures) {
  DiscreteVae vae(kSmall);
  const auto images = torch::zeros({2, 3, 8, 8});
  EXPECT_THAT(
      [&] {
        vae->loss(images, {torch::zeros({1, 16, 4, 4}), 1.0, 1.0});
      },
      ThrowsMessage<Error>(HasSubstr("noise is Float [1, 16, 4, 4]")));
  EXPECT_THAT(
      [&] {
        vae->loss(images, {torch::zeros({2, 16, 4, 4}), 0.0, 1.0});
      },
      ThrowsMessage<Error>(HasSubstr("temperature is 0")));
}

}  // namespace
}  // namespace dalle
