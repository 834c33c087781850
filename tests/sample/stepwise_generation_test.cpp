#include "sample/stepwise_generation.h"

#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/stop_signal.h"
#include "sample/generate_codes.h"
#include "sample/guidance.h"
#include "sample/sample_tokens.h"
#include "sample/small_dalle.h"

namespace dalle::stepwise_generation_test {  // test sources are joined, and others use these names
namespace {

constexpr int64_t kLength = 9;  // of an image of small_model()

TEST(StepwiseGeneration, GivesTheCodesOfTheCpuDecoder) {
  auto model = small_model();
  const std::vector<CaptionImages> requests{{.caption = caption(), .count = 5},
                                            {.caption = caption(4), .first_image = 3, .count = 2}};
  for (const SamplingConfig& sampling : {SamplingConfig{}, SamplingConfig{.guidance = 2},
                                         SamplingConfig{.guidance = 2, .guidance_to = 0.5},
                                         SamplingConfig{.guidance = 2, .guidance_from = 0.5}}) {
    const torch::NoGradGuard no_grad;
    int64_t images = 0, progress = 0;
    const GenerateStatistics statistics = generate_stepwise(
        model, requests, sampling, {.seed = 8}, /*images=*/3,
        [&](size_t request, int64_t image, const at::Tensor& codes) {
          ++images;
          const at::Tensor expected =
              generate_codes(model, {.caption = requests[request].caption, .first_image = image},
                             sampling, {.seed = 8});
          EXPECT_TRUE(torch::equal(codes, expected[0])) << sampling.guidance << ", " << image;
        },
        [&](int64_t codes) { progress += codes; });
    EXPECT_EQ(images, 7);
    EXPECT_EQ(progress, 7 * kLength);
    EXPECT_EQ(statistics.codes, 7 * kLength);
    const GuidedPositions guided = guided_positions(sampling, kLength);
    EXPECT_EQ(statistics.rows, 7 * (kLength + guided.end));
  }
}

/// A small model of images of 16 x 16 codes.
DalleModel model_of_many_codes() {
  TransformerConfig config;
  config.depth = config.heads = 1;
  config.width = 8;
  config.text_length = 4;
  const SequenceLayout layout{.text_length = 4, .grid_height = 16, .grid_width = 16};
  return DalleModel(config, layout, 10, 20);
}

/// The names of the operations that `work` calls.
std::vector<std::string> operations_of(const std::function<void()>& work) {
  static std::vector<std::string> operations;  // a callback is a function without state
  operations.clear();
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& call) {
        operations.emplace_back(call.name());
        return std::unique_ptr<at::ObserverContext>();
      }));
  work();
  at::removeCallback(handle);
  return operations;
}

TEST(StepwiseGeneration, CallsTheSameOperationsForAllPositionsAndReadsNoValue) {
  const torch::NoGradGuard no_grad;
  for (const auto& [kind, name] : enum_names(AttentionKind{})) {
    auto model = small_model({.attention = {kind}});
    DecodeState state = model->prefill(caption().unsqueeze(0));
    const SamplingConfig sampling{.temperature = 0.9, .top_k = 10, .top_p = 0.9, .guidance = 2};
    at::Tensor token = torch::zeros({1}, at::kLong);
    std::vector<std::string> first;
    for (int64_t position = 0; position < kLength; ++position) {
      const auto operations = operations_of([&] {
        const at::Tensor logits = model->decode_step(state, token);
        token = sample_tokens(guided_logits(logits, logits, sampling.guidance), sampling,
                              torch::full({1}, 0.5, at::kDouble));
      });
      if (position == 0) continue;  // also makes the tables of keys
      if (position == 1) first = operations;
      EXPECT_EQ(operations, first) << name << ", position " << position;
    }
    EXPECT_THAT(first, testing::Contains("aten::scaled_dot_product_attention"));
    for (const char* const reads : {"aten::item", "aten::_local_scalar_dense", "aten::equal",
                                    "aten::nonzero", "aten::masked_select", "aten::is_nonzero"})
      EXPECT_THAT(first, testing::Not(testing::Contains(reads)));
  }
}

TEST(StepwiseGeneration, ReportsProgressAtLeastEvery32Steps) {
  const torch::NoGradGuard no_grad;
  DalleModel model = model_of_many_codes();
  at::Tensor forced = torch::full({256}, kFreeCode, at::kLong);
  forced.slice(0, 245) = 3;
  const CaptionImages request{.caption = caption(), .count = 2, .forced = forced};
  std::vector<int64_t> progress;
  generate_stepwise(
      model, std::span(&request, 1), {.guidance = 2, .guidance_to = 52.0 / 256}, {}, /*images=*/2,
      [](size_t, int64_t, const at::Tensor&) {}, [&](int64_t codes) { progress.push_back(codes); });
  // Of each image, 52 codes with guidance, 193 without, and eleven that are given.
  EXPECT_EQ(progress, (std::vector<int64_t>{64, 40, 64, 64, 64, 64, 64, 64, 2 * (1 + 11)}));
}

TEST(StepwiseGeneration, StopsWhenProgressThrows) {
  const torch::NoGradGuard no_grad;
  DalleModel model = model_of_many_codes();
  const CaptionImages request{.caption = caption()};
  int64_t calls = 0;
  EXPECT_THROW(generate_stepwise(
                   model, std::span(&request, 1), {}, {}, /*images=*/1,
                   [](size_t, int64_t, const at::Tensor&) { FAIL(); },
                   [&](int64_t) {
                     if (++calls == 2) throw StopRequested();
                   }),
               StopRequested);
  EXPECT_EQ(calls, 2);
}

TEST(StepwiseGeneration, RejectsNonFiniteLogits) {
  const torch::NoGradGuard no_grad;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const SamplingConfig& sampling :
         {SamplingConfig{}, SamplingConfig{.temperature = 0}, SamplingConfig{.top_k = 3},
          SamplingConfig{.top_p = 0.5}, SamplingConfig{.guidance = 2}}) {
      auto model = small_model();
      model->named_parameters()["image_head.weight"].flatten()[0] = value;
      const CaptionImages request{.caption = caption()};
      EXPECT_THROW(generate_stepwise(
                       model, std::span(&request, 1), sampling, {}, /*images=*/1,
                       [](size_t, int64_t, const at::Tensor&) { FAIL(); }, [](int64_t) {}),
                   Error);
    }
}

}  // namespace
}  // namespace dalle::stepwise_generation_test
