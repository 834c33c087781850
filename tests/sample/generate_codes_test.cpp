#include "sample/generate_codes.h"

#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "sample/small_dalle.h"

namespace dalle {
namespace {

struct Images {
  int64_t first_image = 0;
  int64_t count = 1;
};

at::Tensor generate(DalleModel model, const Images& images, const GenerateOptions& options = {},
                    const SamplingConfig& sampling = {}) {
  return generate_codes(
      std::move(model),
      {.caption = caption(), .first_image = images.first_image, .count = images.count}, sampling,
      options);
}

TEST(GenerateCodes, ReturnsGridsOfCodes) {
  const auto codes = generate(small_model(), {.count = 5});
  EXPECT_EQ(codes.sizes(), (std::vector<int64_t>{5, 3, 3}));
  EXPECT_GE(codes.min().item<int64_t>(), 0);
  EXPECT_LT(codes.max().item<int64_t>(), 20);
}

TEST(GenerateCodes, ImageIOfASeedDoesNotDependOnTheCountBatchSizeOrThreads) {
  const int threads = at::get_num_threads();
  for (const auto precision : {Precision::kFloat32, Precision::kBfloat16})
    for (const ModelOptions& options :
         {ModelOptions{.precision = precision},
          ModelOptions{.width = 128, .vocab = 300, .precision = precision}}) {
      auto model = small_model(options);
      const auto many = generate(model, {.count = 40}, {.seed = 4});
      for (const int set : {1, 2}) {
        at::set_num_threads(set);
        for (const int64_t batch_size : {1, 3, 64})
          for (const Images images : {Images{0, 1}, Images{0, 14}, Images{7, 11}, Images{39, 1}})
            EXPECT_TRUE(
                torch::equal(generate(model, images, {.seed = 4, .batch_size = batch_size}),
                             many.slice(0, images.first_image, images.first_image + images.count)))
                << "width " << options.width << ", " << set << " threads, images from "
                << images.first_image << " by " << batch_size;
      }
      at::set_num_threads(threads);
    }
}

TEST(GenerateCodes, ImageIOfASeedDoesNotDependOnOtherCaptions) {
  auto model = small_model();
  std::vector<CaptionImages> requests;
  std::vector<at::Tensor> alone;
  for (int64_t c = 0; c < 7; ++c) {
    requests.push_back({.caption = caption(c), .first_image = c, .count = 1 + c % 3});
    alone.push_back(generate_codes(model, requests.back(), {}, {.seed = 9}));
  }
  for (const int64_t batch_size : {1, 4, 32}) {
    int64_t images = 0;
    const auto compare = [&](size_t request, int64_t image, const at::Tensor& codes) {
      ++images;
      EXPECT_TRUE(torch::equal(codes, alone[request][image - requests[request].first_image]));
    };
    generate_codes(model, requests, {}, {.seed = 9, .batch_size = batch_size}, compare);
    EXPECT_EQ(images, 13);
  }
  EXPECT_FALSE(
      torch::equal(alone[0][0], generate_codes(model, {.caption = caption(1)}, {}, {})[0]));
}

TEST(GenerateCodes, CompletesImagesInTurnSoThatMemoryDoesNotDependOnTheCount) {
  auto model = small_model();
  const CaptionImages request{.caption = caption(), .count = 9};
  int64_t passes = 0;
  std::vector<int64_t> completed_after;
  const GenerateStatistics statistics = generate_codes(
      model, std::span(&request, 1), {}, {.batch_size = 2, .decode = {DecodeMode::kSequential, 1}},
      [&](size_t, int64_t, const at::Tensor&) { completed_after.push_back(passes + 1); },
      [&](int64_t, int64_t) { ++passes; });
  EXPECT_EQ(completed_after, (std::vector<int64_t>{9, 9, 18, 18, 27, 27, 36, 36, 45}));
  EXPECT_EQ(statistics.passes, 45);
  EXPECT_EQ(statistics.rows, 81);
  EXPECT_EQ(statistics.codes, 81);
}

TEST(GenerateCodes, ParallelDecodingGivesTheCodesOfSequentialDecoding) {
  for (const auto& [kind, kind_name] : enum_names(AttentionKind{}))
    for (const SamplingConfig& sampling :
         {SamplingConfig{}, SamplingConfig{.temperature = 0.3}, SamplingConfig{.temperature = 0},
          SamplingConfig{.top_k = 3}, SamplingConfig{.top_p = 0.7}}) {
      auto model = small_model({.attention = {kind}});
      const auto expected = generate(model, {.count = 25},
                                     {.seed = 2, .decode = {DecodeMode::kSequential, 1}}, sampling);
      for (const DecodeMode mode : {DecodeMode::kParallel, DecodeMode::kAuto})
        for (const int64_t window : {1, 2, 5, 9, 100})
          for (const int64_t batch_size : {1, 4})
            EXPECT_TRUE(torch::equal(generate(model, {.count = 25},
                                              {.seed = 2,
                                               .batch_size = batch_size,
                                               .decode = {mode, window, /*cached_bytes=*/0}},
                                              sampling),
                                     expected))
                << kind_name << ", window " << window << ", batch size " << batch_size;
    }
}

TEST(GenerateCodes, AutoGuessesOnlyIfTheWeightsDoNotFitInCaches) {
  // All parameters are 0, so every guess is right and wider passes would pay off.
  TransformerConfig config;
  config.depth = config.heads = 1;
  config.width = 8;
  config.text_length = 4;
  const SequenceLayout layout{.text_length = 4, .grid_height = 16, .grid_width = 16};
  const DalleModel model(config, layout, 10, 20);
  const CaptionImages request{.caption = caption()};
  const auto statistics = [&](int64_t cached_bytes) {
    return generate_codes(model, std::span(&request, 1), {},
                          {.decode = {.cached_bytes = cached_bytes}},
                          [](size_t, int64_t, const at::Tensor&) {});
  };
  const GenerateStatistics cached = statistics(1 << 20), streamed = statistics(0);
  EXPECT_EQ(cached.passes, 256);
  EXPECT_EQ(cached.rows, 256);
  EXPECT_GT(streamed.rows, streamed.passes);
}

TEST(GenerateCodes, ParallelDecodingNeedsFewerPassesWhereGuessesAreRight) {
  auto model = small_model();
  {
    const torch::NoGradGuard no_grad;  // then no code depends on another
    model->named_parameters()["image_embedding"].zero_();
  }
  const CaptionImages request{.caption = caption()};
  const auto passes = [&](DecodeMode mode) {
    return generate_codes(model, std::span(&request, 1), {}, {.decode = {mode, 9}},
                          [](size_t, int64_t, const at::Tensor&) {})
        .passes;
  };
  EXPECT_EQ(passes(DecodeMode::kSequential), 9);
  EXPECT_LE(passes(DecodeMode::kParallel), 2);  // the second confirms the guesses of the first
}

TEST(GenerateCodes, SamplesTheFirstTokenFromTheModelsDistribution) {
  auto model = small_model();
  constexpr int64_t kSamples = 1200;
  const auto first = generate(model, {.count = kSamples}, {.seed = 6}).flatten(1).select(1, 0);
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
  EXPECT_FALSE(torch::equal(generate(model, {.count = 3}, {.seed = 4}),
                            generate(model, {.count = 3}, {.seed = 5})));
}

TEST(GenerateCodes, AtTemperatureZeroTakesTheMostLikelyCodes) {
  auto model = small_model();
  const auto codes = generate(model, {.count = 1}, {}, {.temperature = 0}).view({1, 9});
  const torch::NoGradGuard no_grad;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto logits =
      model->hidden_states(caption().unsqueeze(0), codes).slice(1, 4).matmul(head.t());
  EXPECT_TRUE(torch::equal(logits.argmax(2), codes));
}

TEST(GenerateCodes, ReportsProgressToTheEnd) {
  int64_t calls = 0, last = 0, total = 0;
  generate_codes(small_model(), {.caption = caption(), .count = 20}, {}, {},
                 [&](int64_t done, int64_t all) {
                   ++calls;
                   EXPECT_GT(done, last);
                   last = done;
                   total = all;
                 });
  EXPECT_GT(calls, 0);
  EXPECT_EQ(last, total);
}

TEST(GenerateCodes, RejectsAModelWithNonFiniteWeights) {
  const torch::NoGradGuard no_grad;
  for (const char* name :
       {"image_head.weight", "block_1.attention.query_key_value.weight",
        "block_1.attention.output.weight", "block_1.expand.weight", "block_1.contract.weight"}) {
    auto model = small_model();
    model->named_parameters()[name].flatten()[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(generate(model, {.count = 1}), Error) << name;
  }
}

}  // namespace
}  // namespace dalle
