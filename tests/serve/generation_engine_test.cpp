#include "serve/engine/generation_engine.h"

#include <algorithm>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <torch/types.h>

#include "error_of.h"
#include "experiment/trained/reranker.h"
#include "sample/best_candidates.h"
#include "sample/caption_images.h"
#include "serve/engine_requests.h"

namespace dalle::engine_test {
namespace {

TEST(GenerationEngine, GivesTheImagesOfTheSamplerInAnyMixOfRequests) {
  const TrainedDalle dalle = small_trained_dalle();
  std::mt19937 random(1);
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest})
    for (const int64_t batch_size : {1, 3, 16})
      for (const DecodeMode mode : {DecodeMode::kSequential, DecodeMode::kParallel}) {
        std::vector<GenerationRequest> requests;
        for (int i = 0; i < 12; ++i) requests.push_back(random_request(random));
        std::vector<Outcome> outcomes(requests.size());
        AwaitedEngine engine(small_trained_dalle(),
                             {.batch_size = batch_size, .decode = {mode, 4}, .batching = batching});
        int64_t images = 0;
        for (size_t i = 0; i < requests.size(); ++i) {
          engine.submit(requests[i], outcomes[i].events());
          images += requests[i].count;
          if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        engine.wait_until_idle();
        for (size_t i = 0; i < requests.size(); ++i) {
          EXPECT_EQ(outcomes[i].images, expected_images(dalle, requests[i]));
          EXPECT_EQ(outcomes[i].done, 1);
          EXPECT_THAT(outcomes[i].failures, testing::ElementsAre());
          EXPECT_GE(outcomes[i].times.queue_s, 0);
          EXPECT_GT(outcomes[i].times.decode_s, 0);
          EXPECT_GT(outcomes[i].times.image_s, 0);
        }
        const EngineStatus status = engine.status();
        EXPECT_EQ(status.finished, images);
        EXPECT_EQ(status.codes, images * kCodes);
        EXPECT_EQ(status.queued + status.active + status.canceled + status.failed, 0);
        EXPECT_EQ(status.slots, batch_size);
        EXPECT_GT(status.seconds_per_image, 0);
      }
}

TEST(GenerationEngine, KeepsTheBestByTheRerankerLikeTheSampler) {
  const TrainedDalle dalle = small_trained_dalle();
  const auto reranker = make_likelihood_reranker(dalle);
  const GenerationRequest request{
      .caption = "a red circle", .seed = 3, .first_image = 2, .count = 3, .best_of = 9};
  BestCandidates<RgbImage> best(3);
  for (int64_t image = 2; image < 11; ++image) {
    const at::Tensor codes = expected_codes(dalle, request, image).view({4, 4});
    const RgbImage pixels = decode_image(dalle.vae, codes);
    best.add({.number = image,
              .score = reranker->score(request.caption, codes, pixels),
              .content = pixels});
  }
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest}) {
    AwaitedEngine engine(small_trained_dalle(), {.batch_size = 4, .batching = batching});
    EXPECT_EQ(engine.reranker_name(), "likelihood");
    Outcome outcome;
    engine.submit(request, outcome.events());
    engine.wait_until_idle();
    ASSERT_EQ(outcome.order.size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(outcome.order[i], best.best()[i].number);
      EXPECT_EQ(outcome.scores[i], best.best()[i].score);
      EXPECT_EQ(outcome.images.at(outcome.order[i]), best.best()[i].content);
    }
    EXPECT_EQ(outcome.done, 1);
    EXPECT_EQ(engine.status().finished, 9);
  }
}

TEST(GenerationEngine, RanksAsManyImagesAsItKeeps) {
  AwaitedEngine engine(small_trained_dalle(), {});
  Outcome outcome;
  engine.submit({.caption = "a red circle", .count = 3, .best_of = 3}, outcome.events());
  engine.wait_until_idle();
  EXPECT_EQ(outcome.images.size(), 3U);
  EXPECT_EQ(outcome.scores.size(), 3U);
  EXPECT_TRUE(std::ranges::is_sorted(outcome.scores, std::greater()));
}

TEST(GenerationEngine, RanksByWhatItIsAskedForOrSaysWhyNot) {
  const auto error = [](double caption_dropout, const EngineOptions& options) {
    return error_of([&] { GenerationEngine(small_trained_dalle(caption_dropout), options); });
  };
  EXPECT_THAT(error(0.1, {.rank_by = RankBy::kClip}), testing::HasSubstr("no reranker for"));
  EXPECT_THAT(error(0, {.rank_by = RankBy::kLikelihood}),
              testing::HasSubstr("caption_dropout is 0"));
  EXPECT_THAT(error(0.1, {.reranker = "a-run", .rank_by = RankBy::kLikelihood}),
              testing::HasSubstr("expected none"));
  EXPECT_THAT(error(0.1, {.reranker = "a-run"}), testing::HasSubstr("a-run"));
  EXPECT_EQ(error(0.1, {.rank_by = RankBy::kLikelihood}), "no error");
}

TEST(GenerationEngine, ShowsPreviewsOfTheCodesSoFar) {
  const TrainedDalle dalle = small_trained_dalle();
  for (const bool is_prompt : {false, true}) {
    GenerationRequest request{.caption = "a red circle", .count = 3, .previews = 3};
    if (is_prompt) {  // half of the codes
      request.forced = torch::full({kCodes}, kFreeCode, at::kLong);
      for (const int64_t position : {0, 3, 4, 5, 9, 10, 12, 15}) request.forced[position] = 7;
      request.original = RgbImage{32, 32, std::vector<uint8_t>(3 * 32 * 32, 99)};
      request.pasted_pixels = keep_upper_rows(0.5, 32);
    }
    AwaitedEngine engine(small_trained_dalle(), {.batch_size = 2});
    Outcome outcome;
    engine.submit(request, outcome.events());
    engine.wait_until_idle();
    EXPECT_EQ(outcome.previews.size(), 9U);
    for (int64_t image = 0; image < 3; ++image) {
      const at::Tensor all = expected_codes(dalle, request, image);
      for (int64_t number = 0; number < 3; ++number) {
        std::vector<int64_t> codes(all.const_data_ptr<int64_t>(),
                                   all.const_data_ptr<int64_t>() + kCodes);
        int64_t left = (number + 1) * (is_prompt ? 2 : 4);  // a quarter for each preview
        for (int64_t p = 0; p < kCodes; ++p) {
          if (is_prompt && request.forced[p].item<int64_t>() != kFreeCode) continue;
          if (left-- <= 0) codes[static_cast<size_t>(p)] = kFreeCode;
        }
        RgbImage expected = decode_image(dalle.vae, preview_codes(codes, dalle.config.layout()));
        if (is_prompt) expected = paste(request.original, request.pasted_pixels, expected);
        EXPECT_EQ((outcome.previews.at({image, number})), expected) << image << ", " << number;
      }
    }
  }
}

}  // namespace
}  // namespace dalle::engine_test
