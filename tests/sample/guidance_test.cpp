#include "sample/guidance.h"

#include <span>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "sample/generate_codes.h"
#include "sample/image_noise.h"
#include "sample/small_dalle.h"
#include "sample/token_sampler.h"

namespace dalle::guidance_test {  // test sources are joined, and others use the same names
namespace {

constexpr int64_t kLength = 9;  // of an image of small_model()

GenerateStatistics statistics_of(DalleModel model, const SamplingConfig& sampling) {
  const CaptionImages request{.caption = caption(), .count = 3};
  return generate_codes(std::move(model), std::span(&request, 1), sampling, {},
                        [](size_t, int64_t, const at::Tensor&) {});
}

at::Tensor generate(DalleModel model, const SamplingConfig& sampling, int64_t count,
                    const GenerateOptions& options = {.seed = 8}) {
  return generate_codes(std::move(model), {.caption = caption(), .count = count}, sampling,
                        options);
}

/// The logits of position `codes.size(0)` after `codes`, from a pass over the whole sequence.
at::Tensor next_logits(DalleModel& model, const at::Tensor& caption, const at::Tensor& codes) {
  const int64_t position = codes.size(0);
  const at::Tensor padded = torch::cat({codes, torch::zeros({kLength - position}, at::kLong)});
  const at::Tensor states = model->hidden_states(caption.unsqueeze(0), padded.unsqueeze(0));
  return states[0][kLayout.text_length + position]
      .unsqueeze(0)
      .matmul(model->named_parameters()["image_head.weight"].t())
      .to(at::kDouble)[0];
}

/// Guidance by its definition, from two passes over the whole sequence for each code.
at::Tensor plain_image(DalleModel& model, const SamplingConfig& sampling, uint64_t seed,
                       int64_t image) {
  const torch::NoGradGuard no_grad;
  const at::Tensor null = torch::full_like(caption(), kPadToken);
  const ImageNoise noise(seed, {caption().const_data_ptr<int64_t>(), 3});
  TokenSampler sampler(sampling);
  at::Tensor codes = torch::empty({0}, at::kLong);
  for (int64_t position = 0; position < kLength; ++position) {
    at::Tensor logits = next_logits(model, caption(), codes);
    const double part = static_cast<double>(position) / kLength;
    if (part >= sampling.guidance_from && part < sampling.guidance_to) {
      const at::Tensor base = next_logits(model, null, codes);
      logits = base + sampling.guidance * (logits - base);
    }
    const at::Tensor values = logits.to(at::kFloat);
    const int64_t code =
        sampler.sample({values.const_data_ptr<float>(), static_cast<size_t>(values.numel())},
                       noise.at(image, position));
    codes = torch::cat({codes, torch::tensor({code})});
  }
  return codes;
}

TEST(Guidance, OfOneIsOffBitForBit) {
  auto model = small_model();
  const at::Tensor expected = generate(model, {}, 10);
  const SamplingConfig one{.guidance = 1, .guidance_from = 0.2, .guidance_to = 0.7};
  EXPECT_TRUE(torch::equal(generate(model, one, 10), expected));
  EXPECT_EQ(statistics_of(model, one).rows, statistics_of(model, {}).rows);
  EXPECT_FALSE(torch::equal(generate(model, {.guidance = 2}, 10), expected));
}

TEST(Guidance, GivesTheCodesOfItsDefinition) {
  auto model = small_model();
  for (const SamplingConfig& sampling :
       {SamplingConfig{.guidance = 3}, SamplingConfig{.guidance = 0},
        SamplingConfig{.guidance = 0.5}, SamplingConfig{.temperature = 0, .guidance = 2},
        SamplingConfig{.top_k = 3, .guidance = 1.5}, SamplingConfig{.top_p = 0.6, .guidance = 2},
        SamplingConfig{.guidance = 4, .guidance_from = 0.3},
        SamplingConfig{.guidance = 4, .guidance_to = 0.5},
        SamplingConfig{.guidance = 4, .guidance_from = 0.25, .guidance_to = 0.75}}) {
    const at::Tensor codes = generate(model, sampling, 6).flatten(1);
    for (int64_t image = 0; image < 6; ++image)
      EXPECT_TRUE(torch::equal(codes[image], plain_image(model, sampling, 8, image)))
          << "guidance " << sampling.guidance << " from " << sampling.guidance_from << " to "
          << sampling.guidance_to << ", image " << image;
  }
}

TEST(Guidance, IsTheSameForAnyBatchSizeDecodeModeAndThreads) {
  const int threads = at::get_num_threads();
  const SamplingConfig sampling{
      .top_k = 8, .guidance = 2.5, .guidance_from = 0.1, .guidance_to = 0.8};
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    auto model = small_model({.width = 128, .vocab = 300, .precision = precision});
    const at::Tensor expected = generate(model, sampling, 11);
    for (const int set : {1, 2}) {
      at::set_num_threads(set);
      for (const auto& [mode, name] : enum_names(DecodeMode{}))
        for (const int64_t batch_size : {1, 3, 64}) {
          const GenerateOptions options{
              .seed = 8, .batch_size = batch_size, .decode = {mode, 5, /*cached_bytes=*/0}};
          EXPECT_TRUE(torch::equal(generate(model, sampling, 11, options), expected))
              << name << ", batch size " << batch_size << ", " << set << " threads";
          EXPECT_TRUE(torch::equal(generate(model, sampling, 2, options), expected.slice(0, 0, 2)));
        }
    }
    at::set_num_threads(threads);
  }
}

TEST(Guidance, TakesASecondRowUpToItsLastPosition) {
  auto model = small_model();
  EXPECT_EQ(statistics_of(model, {.guidance = 2}).rows, 3 * 2 * kLength);
  EXPECT_EQ(statistics_of(model, {.guidance = 2, .guidance_to = 0.4}).rows, 3 * (kLength + 4));
  EXPECT_EQ(statistics_of(model, {.guidance = 2, .guidance_from = 0.5}).rows, 3 * 2 * kLength);
}

TEST(Guidance, CoversThePositionsInItsPartOfTheImage) {
  const auto guided = [](double from, double to) {
    const GuidedPositions positions =
        guided_positions({.guidance = 3, .guidance_from = from, .guidance_to = to}, 8);
    std::vector<int64_t> found;
    for (int64_t p = 0; p < 8; ++p)
      if (positions.contains(p)) found.push_back(p);
    return found;
  };
  EXPECT_EQ(guided(0, 1), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(guided(0.25, 0.5), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(guided(0.26, 0.51), (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(guided(0.26, 0.27), (std::vector<int64_t>{}));
}

TEST(DefaultBatchSize, HalvesWhereGuidanceDoublesTheCaches) {
  TransformerConfig config;
  config.depth = 12;
  config.width = 768;
  const int64_t plain = default_batch_size(config, {}, {});
  EXPECT_EQ(plain, 9);  // 113 MiB each: a fifth for the caption, heads of width 12 padded to 16
  EXPECT_EQ(default_batch_size(config, {}, {.guidance = 3}), plain / 2);
  config.depth = config.width = config.heads = 1;
  EXPECT_EQ(default_batch_size(config, {}, {.guidance = 3}), 32);
}

}  // namespace
}  // namespace dalle::guidance_test
