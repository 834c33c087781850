#include "sample/generate_codes.h"

#include <limits>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

constexpr SequenceLayout kLayout{.text_length = 4, .grid_height = 3, .grid_width = 3};

DalleModel small_model() {
  TransformerConfig config;
  config.depth = 2;
  config.heads = 2;
  config.width = 16;
  config.text_length = 4;
  config.conv_kernel = 3;
  config.init = TransformerInit::kNormal002;
  DalleModel model(config, kLayout, 10, 20);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 2) parameter *= 15;
  model->eval();
  return model;
}

at::Tensor caption() {
  return torch::tensor({int64_t{3}, int64_t{5}, kPadToken});
}

at::Tensor generate(DalleModel model, const GenerateOptions& options,
                    const SamplingConfig& sampling = {}) {
  return generate_codes(std::move(model), caption(), sampling, options);
}

TEST(GenerateCodes, ReturnsGridsOfCodes) {
  const auto codes = generate(small_model(), {.count = 5});
  EXPECT_EQ(codes.sizes(), (std::vector<int64_t>{5, 3, 3}));
  EXPECT_GE(codes.min().item<int64_t>(), 0);
  EXPECT_LT(codes.max().item<int64_t>(), 20);
}

TEST(GenerateCodes, ImageIOfASeedDoesNotDependOnTheCount) {
  auto model = small_model();
  const auto many = generate(model, {.seed = 4, .count = 30});
  EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .count = 1}), many.slice(0, 0, 1)));
  EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .count = 13}), many.slice(0, 0, 13)));
  EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .first_image = 7, .count = 11}),
                           many.slice(0, 7, 18)));
}

TEST(GenerateCodes, ImageIOfASeedDoesNotDependOnTheCountAtTheWidthOfTheDemo) {
  for (const auto precision : {Precision::kFloat32, Precision::kBfloat16}) {
    TransformerConfig config;
    config.depth = 4;
    config.heads = 4;
    config.width = 128;
    config.text_length = kLayout.text_length;
    config.init = TransformerInit::kNormal002;
    DalleModel model(config, kLayout, 10, 300, precision);
    model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
    const auto many = generate(model, {.seed = 4, .count = 25});
    EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .count = 1}), many.slice(0, 0, 1)));
    EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .count = 14}), many.slice(0, 0, 14)));
    EXPECT_TRUE(torch::equal(generate(model, {.seed = 4, .first_image = 10, .count = 5}),
                             many.slice(0, 10, 15)));
  }
}

TEST(GenerateCodes, SamplesTheFirstTokenFromTheModelsDistribution) {
  auto model = small_model();
  constexpr int64_t kSamples = 1200;
  const auto first = generate(model, {.seed = 6, .count = kSamples}).flatten(1).select(1, 0);
  const torch::NoGradGuard no_grad;
  DecodeState state = model->prefill(caption().unsqueeze(0));
  const auto expected =
      model->decode_step(state, torch::zeros({1}, torch::kLong)).softmax(1)[0].to(at::kDouble) *
      kSamples;
  const auto counts = first.bincount({}, 20).to(torch::kDouble);
  const auto frequent = expected > 5;  // enough for the chi-squared statistic to be valid
  const double statistic =
      (((counts - expected).square() / expected).masked_select(frequent)).sum().item<double>();
  ASSERT_GT(frequent.sum().item<int64_t>(), 5);
  EXPECT_LT(statistic, 45.3);  // at most 20 degrees of freedom, p = 0.001
}

TEST(GenerateCodes, DependsOnTheSeed) {
  auto model = small_model();
  EXPECT_FALSE(torch::equal(generate(model, {.seed = 4, .count = 3}),
                            generate(model, {.seed = 5, .count = 3})));
}

TEST(GenerateCodes, AtTemperatureZeroTakesTheMostLikelyCodes) {
  auto model = small_model();
  const auto codes = generate(model, {.count = 1}, {.temperature = 0}).view({1, 9});
  const torch::NoGradGuard no_grad;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto logits =
      model->hidden_states(caption().unsqueeze(0), codes).slice(1, 4).matmul(head.t());
  EXPECT_TRUE(torch::equal(logits.argmax(2), codes));
}

TEST(GenerateCodes, ReportsProgressToTheEnd) {
  int64_t calls = 0, last = 0, total = 0;
  generate_codes(small_model(), caption(), {}, {.count = 20}, [&](int64_t done, int64_t all) {
    ++calls;
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  EXPECT_GT(calls, 0);
  EXPECT_EQ(last, total);
}

TEST(GenerateCodes, RejectsAModelWithNonFiniteWeights) {
  auto model = small_model();
  const torch::NoGradGuard no_grad;
  model->named_parameters()["image_head.weight"].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THROW(generate(model, {.count = 1}), Error);
}

}  // namespace
}  // namespace dalle
