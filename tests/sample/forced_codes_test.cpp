#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "sample/caption_images.h"
#include "sample/generate_codes.h"
#include "sample/small_dalle.h"
#include "sample/stepwise_generation.h"

namespace dalle::forced_codes_test {  // test sources are joined, and others use the same names
namespace {

constexpr int64_t kLength = 9;  // of an image of small_model()

/// Which codes are kept: prefixes, suffixes, every other one, and random ones.
std::vector<at::Tensor> kept_patterns(int64_t length) {
  const at::Tensor positions = torch::arange(length);
  std::vector<at::Tensor> patterns;
  for (const int64_t n : {int64_t{1}, length / 2, length - 1, length}) {
    patterns.push_back(positions.lt(n));
    patterns.push_back(positions.ge(length - n));
  }
  patterns.push_back(positions.remainder(2).eq(0));
  patterns.push_back(positions.remainder(2).eq(1));
  auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  for (int i = 0; i < 4; ++i) patterns.push_back(torch::rand({length}, generator).lt(0.5));
  return patterns;
}

at::Tensor keep(const at::Tensor& codes, const at::Tensor& kept) {
  return at::where(kept, codes, torch::full_like(codes, kFreeCode)).contiguous();
}

struct Found {
  at::Tensor codes;  ///< [count, length]
  GenerateStatistics statistics;
};

Found generate(DalleModel model, const CaptionImages& request, const SamplingConfig& sampling,
               const GenerateOptions& options) {
  Found found{torch::empty({request.count, model->layout().image_length()}, at::kLong), {}};
  int64_t last = 0, total = 0;
  found.statistics = generate_codes(
      model, std::span(&request, 1), sampling, options,
      [&](size_t, int64_t image, const at::Tensor& codes) {
        found.codes[image - request.first_image].copy_(codes.flatten());
      },
      [&](int64_t done, int64_t all) { last = done, total = all; });
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, found.codes.numel());
  EXPECT_EQ(found.statistics.codes, found.codes.numel());
  return found;
}

at::Tensor generate_by_steps(DalleModel model, const CaptionImages& request,
                             const SamplingConfig& sampling, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  at::Tensor found = torch::empty({request.count, kLength}, at::kLong);
  int64_t progress = 0;
  generate_stepwise(
      model, std::span(&request, 1), sampling, {.seed = seed}, /*images=*/2,
      [&](size_t, int64_t image, const at::Tensor& codes) { found[image].copy_(codes.flatten()); },
      [&](int64_t codes) { progress += codes; });
  EXPECT_EQ(progress, found.numel());
  return found;
}

TEST(ForcedCodes, ThatWouldHaveBeenSampledAnywayChangeNothing) {
  for (const auto& [kind, kind_name] : enum_names(AttentionKind{})) {
    auto model = small_model({.attention = {kind}});
    for (const SamplingConfig& sampling :
         {SamplingConfig{}, SamplingConfig{.guidance = 2, .guidance_to = 0.7}}) {
      const at::Tensor image =
          generate(model, {.caption = caption(), .first_image = 3}, sampling, {.seed = 5}).codes[0];
      for (const at::Tensor& kept : kept_patterns(kLength)) {
        const CaptionImages request{
            .caption = caption(), .first_image = 3, .forced = keep(image, kept)};
        for (const auto& [mode, name] : enum_names(DecodeMode{}))
          for (const int64_t window : {1, 4, 100})
            EXPECT_TRUE(
                torch::equal(generate(model, request, sampling,
                                      {.seed = 5, .decode = {mode, window, /*cached_bytes=*/0}})
                                 .codes[0],
                             image))
                << kind_name << ", " << name << ", window " << window << ", kept " << kept;
      }
    }
  }
}

TEST(ForcedCodes, ComeBackInEveryImageForAnyBatchSizeAndDecodeMode) {
  auto model = small_model();
  const at::Tensor given = torch::tensor({7, 1, 19, 0, 3, 3, 12, 5, 18});
  for (const at::Tensor& kept : kept_patterns(kLength)) {
    const CaptionImages request{.caption = caption(), .count = 7, .forced = keep(given, kept)};
    const at::Tensor expected = generate(model, request, {}, {.seed = 5, .batch_size = 1}).codes;
    for (const at::Tensor& codes : expected.unbind())
      EXPECT_TRUE(torch::equal(codes.masked_select(kept), given.masked_select(kept)));
    const bool differ = !torch::equal(expected[0], expected[1]);
    EXPECT_TRUE(differ || kept.sum().item<int64_t>() >= 6) << kept;
    for (const auto& [mode, name] : enum_names(DecodeMode{}))
      for (const int64_t batch_size : {1, 3, 32}) {
        const GenerateOptions options{
            .seed = 5, .batch_size = batch_size, .decode = {mode, 4, /*cached_bytes=*/0}};
        EXPECT_TRUE(torch::equal(generate(model, request, {}, options).codes, expected))
            << name << ", batch size " << batch_size << ", kept " << kept;
      }
    for (const SamplingConfig& sampling : {SamplingConfig{}, SamplingConfig{.guidance = 2}})
      EXPECT_TRUE(torch::equal(generate_by_steps(model, request, sampling, 5),
                               generate(model, request, sampling, {.seed = 5}).codes))
          << sampling.guidance << ", kept " << kept;
  }
}

TEST(ForcedCodes, AreEvaluatedManyAtATimeAndNotAtAllAfterTheLastFreeOne) {
  auto model = small_model();
  const at::Tensor given = torch::arange(kLength);
  const auto statistics = [&](const at::Tensor& kept) {
    return generate(model, {.caption = caption(), .forced = keep(given, kept)}, {},
                    {.decode = {DecodeMode::kSequential, 1}})
        .statistics;
  };
  const at::Tensor positions = torch::arange(kLength);
  EXPECT_EQ(statistics(positions.lt(6)).passes, 3);  // seven rows, then one by one
  EXPECT_EQ(statistics(positions.lt(6)).rows, kLength);
  EXPECT_EQ(statistics(positions.ge(4)).passes, 4);
  EXPECT_EQ(statistics(positions.ge(4)).rows, 4);
  EXPECT_EQ(statistics(positions.ge(0)).passes, 1);
}

TEST(ForcedCodes, FillSeveralPassesIfThereAreMany) {
  TransformerConfig config;
  config.depth = config.heads = 1;
  config.width = 8;
  config.text_length = 4;
  const SequenceLayout layout{.text_length = 4, .grid_height = 16, .grid_width = 16};
  const DalleModel model(config, layout, 10, 20);
  at::Tensor forced = torch::arange(256).remainder(20);
  forced[255] = kFreeCode;
  const Found found = generate(model, {.caption = caption(), .count = 2, .forced = forced}, {},
                               {.batch_size = 2, .decode = {DecodeMode::kSequential, 1}});
  // Both images advance by one row a pass, and by 64 more that they share.
  EXPECT_EQ(found.statistics.passes, 8);
  EXPECT_EQ(found.statistics.rows, 512);
  for (const at::Tensor& codes : found.codes.unbind())
    EXPECT_TRUE(torch::equal(codes.slice(0, 0, 255), forced.slice(0, 0, 255)));
}

TEST(Variation, FreesAShareOfTheForcedCodesByImageAndPosition) {
  const at::Tensor given = torch::arange(1000);
  const auto freed = [&](double variation, uint64_t seed, int64_t image) {
    const std::vector<int64_t> forced =
        forced_codes({.caption = {}, .forced = given, .variation = variation}, 1000, seed, image);
    std::vector<int64_t> positions;
    for (int64_t p = 0; p < 1000; ++p) {
      if (forced[static_cast<size_t>(p)] == kFreeCode)
        positions.push_back(p);
      else
        EXPECT_EQ(forced[static_cast<size_t>(p)], p);
    }
    return positions;
  };
  EXPECT_EQ(freed(0, 1, 0).size(), 0u);
  EXPECT_EQ(freed(1, 1, 0).size(), 1000u);
  const std::vector<int64_t> some = freed(0.3, 1, 0);
  EXPECT_NEAR(static_cast<double>(some.size()), 300, 45);  // three standard deviations
  EXPECT_EQ(freed(0.3, 1, 0), some);
  EXPECT_NE(freed(0.3, 2, 0), some);
  EXPECT_NE(freed(0.3, 1, 1), some);
  EXPECT_TRUE(std::ranges::includes(freed(0.5, 1, 0), some));
}

TEST(Variation, OfOneIsAnImageWithoutForcedCodes) {
  auto model = small_model();
  const at::Tensor given = torch::arange(kLength);
  const auto codes = [&](double variation) {
    return generate(model,
                    {.caption = caption(), .count = 4, .forced = given, .variation = variation}, {},
                    {.seed = 3})
        .codes;
  };
  EXPECT_TRUE(torch::equal(
      codes(1), generate(model, {.caption = caption(), .count = 4}, {}, {.seed = 3}).codes));
  EXPECT_TRUE(torch::equal(codes(0), given.expand({4, -1})));
  const at::Tensor half = codes(0.5);
  for (int64_t image = 0; image < 4; ++image) {
    const auto forced =
        forced_codes({.caption = {}, .forced = given, .variation = 0.5}, kLength, 3, image);
    for (int64_t p = 0; p < kLength; ++p) {
      const bool is_free = forced[static_cast<size_t>(p)] == kFreeCode;
      EXPECT_TRUE(is_free || half[image][p].item<int64_t>() == p);
    }
  }
}

TEST(ForcedCodes, OfTheWrongLengthOrOutOfRangeAreABrokenPromise) {
  for (const at::Tensor& forced :
       {torch::zeros({8}, at::kLong), torch::zeros({9}, at::kInt), torch::full({9}, 20, at::kLong),
        torch::full({9}, -2, at::kLong)})
    EXPECT_THROW(generate_codes(small_model(), {.caption = caption(), .forced = forced}, {}, {}),
                 std::logic_error);
}

}  // namespace
}  // namespace dalle::forced_codes_test
