// Results of the device compared with the CPU's, and decoding with the full forward pass.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/fields.h"
#include "enum_values.h"
#include "experiment/config/experiment_config.h"
#include "measured_error.h"
#include "model/dalle_model.h"
#include "nn/attention_kind.h"
#include "nn/gumbel.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "sample/caption_images.h"
#include "sample/generate_codes.h"
#include "sample/sample_tokens.h"
#include "sample/token_sampler.h"
#include "subject.h"
#include "tensor/flat_range.h"
#include "tensor/precision.h"
#include "tensor/seeded_uniform.h"
#include "tensor/to_device.h"
#include "test_device.h"

namespace dalle {
namespace {

constexpr double kFloat32Limit = 3e-4;  // which TF32, with its mantissa of ten bits, exceeds

constexpr std::array kSeeds{uint64_t{1}, uint64_t{2}, ~uint64_t{0}};

TEST(NoiseTest, UniformNumbersHaveTheBitsOfTheCpu) {
  EXPECT_TRUE(torch::equal(seeded_uniform(kSeeds, 100'001, test_device()).cpu(),
                           seeded_uniform(kSeeds, 100'001)));
}

TEST(NoiseTest, GumbelNoiseIsThatOfTheCpu) {
  expect_at_most("error",
                 relative_error(gumbel_noise(kSeeds, {64, 16, 16}, test_device()),
                                gumbel_noise(kSeeds, {64, 16, 16})),
                 1e-6);
}

TEST(UploadTest, KeepsWhatWasThereWhenTheHostsTensorIsReplacedAtOnce) {
  constexpr int64_t kSize = 1 << 20;
  std::vector<at::Tensor> found;
  for (int64_t i = 0; i < 32; ++i)
    found.push_back(to_device(torch::full({kSize}, i, torch::kLong), test_device()));
  for (int64_t i = 0; i < 32; ++i)
    EXPECT_TRUE(found[static_cast<size_t>(i)].eq(i).all().item<bool>()) << i;
}

class DecodingTest : public testing::TestWithParam<Precision> {};

INSTANTIATE_TEST_SUITE_P(Precisions, DecodingTest, testing::ValuesIn(enum_values<Precision>()),
                         kEnumName);

/// In one model with all attention kinds.
TEST_P(DecodingTest, WithCachesPredictsWhatTheFullForwardPassDoes) {
  const torch::NoGradGuard no_grad;
  ExperimentConfig config = small_experiment(GetParam());
  config.dalle.model.attention.clear();
  for (const auto& [kind, name] : enum_names(AttentionKind{}))
    config.dalle.model.attention.push_back(kind);
  config.dalle.model.depth = static_cast<int64_t>(config.dalle.model.attention.size()) + 1;
  DalleModel model = make_transformer(config, test_device());
  perturb_weights(*model);
  const auto [captions, codes] = random_sequences(config, 3, test_device());
  const int64_t text_length = config.dalle.model.text_length;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto expected =
      model->hidden_states(captions, codes).slice(1, text_length).matmul(head.t());

  DecodeState state = model->prefill(captions);
  std::vector<at::Tensor> found;
  for (int64_t i = 0; i < codes.size(1); ++i)
    found.push_back(model->decode_step(state, codes.select(1, std::max<int64_t>(i - 1, 0))));
  expect_at_most("logits_error", relative_error(torch::stack(found, 1), expected),
                 GetParam() == Precision::kBfloat16 ? 0.03 : kFloat32Limit);
}

class OptimizerTest : public testing::TestWithParam<OptimizerKind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, OptimizerTest, testing::ValuesIn(enum_values<OptimizerKind>()),
                         kEnumName);

TEST_P(OptimizerTest, ChangesWeightsAsOnTheCpu) {
  const auto changes_on = [](c10::Device device) {
    const Subject subject = transformer_subject(small_experiment(), device);
    const FlatParameters parameters(*subject.module);
    const at::Tensor start = parameters.values().clone();
    Optimizer optimizer(parameters, GetParam(), {.weight_decay = 0.01}, subject.uses_muon,
                        all_of(parameters.values()));
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(6);
    // A single step from zero moments would depend only on the signs of the gradient.
    for (int step = 0; step < 3; ++step)
      optimizer.step(torch::randn(start.sizes(), generator).to(device), 1e-2);
    const at::Tensor change = parameters.values() - start;
    return std::pair(change, parameters.named_views(change));
  };
  const auto [expected, expected_parts] = changes_on(at::kCPU);
  const auto [found, found_parts] = changes_on(test_device());
  const WorstParameter worst = worst_parameter(found_parts, expected_parts);
  expect_at_most("error", relative_error(found, expected), kFloat32Limit,
                 fmt::format(", largest in {} with {:.1e}", worst.name, worst.error));
}

TEST(SampledTokensTest, AreThoseOfTheSamplerForTheSameLogits) {
  constexpr int64_t kRows = 64, kTokens = 8192;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(6);
  const at::Tensor plain = torch::randn({kRows, kTokens}, generator) * 3;
  const at::Tensor uniform = torch::rand({kRows}, generator, at::kDouble);
  for (const at::Tensor& logits : {plain, (plain * 2).round() / 2})  // the second with ties
    for (const SamplingConfig& sampling :
         {SamplingConfig{}, SamplingConfig{.temperature = 0}, SamplingConfig{.temperature = 0.3},
          SamplingConfig{.top_k = 100}, SamplingConfig{.top_p = 0.9},
          SamplingConfig{.top_k = 1000, .top_p = 0.95}}) {
      const at::Tensor found =
          sample_tokens(logits.to(test_device()), sampling, uniform.to(test_device())).cpu();
      TokenSampler sampler(sampling);
      for (int64_t row = 0; row < kRows; ++row)
        EXPECT_EQ(found[row].item<int64_t>(),
                  sampler.sample({logits[row].const_data_ptr<float>(), kTokens},
                                 uniform[row].item<double>()))
            << "temperature " << sampling.temperature << ", top_k " << sampling.top_k << ", top_p "
            << sampling.top_p << ", row " << row;
    }
}

TEST(SampledCodesTest, AreThoseOfTheCpu) {
  const ExperimentConfig config = small_experiment();
  const auto codes_on = [&](c10::Device device, const SamplingConfig& sampling) {
    DalleModel model = make_transformer(config, device);
    perturb_weights(*model);
    return generate_codes(
        model, {.caption = random_sequences(config, 1, at::kCPU).captions[0], .count = 12},
        sampling, {.seed = 7});
  };
  for (const auto& [name, sampling] :
       {std::pair("share", SamplingConfig{}), std::pair("guided_share", SamplingConfig{.top_k = 50,
                                                                        .top_p = 0.9,
                                                                        .guidance = 2,
                                                                        .guidance_from = 0.2,
                                                                        .guidance_to = 0.6})}) {
    const double share = codes_on(test_device(), sampling)
                             .eq(codes_on(at::kCPU, sampling))
                             .to(torch::kDouble)
                             .mean()
                             .item<double>();
    RecordProperty(name, fmt::format("{:.4f}", share));
    // Rounding may change a code, and with it those that follow in the same image.
    EXPECT_GE(share, test_device().is_cpu() ? 1.0 : 0.98) << "of the codes equal the CPU's";
  }
}

}  // namespace
}  // namespace dalle
