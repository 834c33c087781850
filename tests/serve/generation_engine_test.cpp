#include "serve/generation_engine.h"

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <random>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include "error_of.h"
#include "experiment/reranker.h"
#include "sample/best_candidates.h"
#include "sample/generate_images.h"
#include "sample/image_prompt.h"
#include "sample/preview_codes.h"
#include "sample/token_sampler.h"
#include "serve/small_trained_dalle.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kCodes = 16;  // of an image of small_trained_dalle()

/// What became of a request.
struct Outcome {
  std::map<int64_t, RgbImage> images;
  std::vector<int64_t> order;                                ///< of these images
  std::vector<double> scores;                                ///< likewise
  std::map<std::pair<int64_t, int64_t>, RgbImage> previews;  ///< by image and number
  std::vector<std::string> failures;
  int done = 0;
  GenerationTimes times;

  /// Events that fill it in. It is read after drain(), or where the caller knows that it is filled.
  GenerationEvents events() {
    return {.preview =
                [this](int64_t image, int64_t number, const RgbImage& pixels) {
                  previews[{image, number}] = pixels;
                },
            .image =
                [this](const GeneratedImage& image) {
                  EXPECT_TRUE(images.emplace(image.image, image.pixels).second);
                  order.push_back(image.image);
                  if (image.score) scores.push_back(*image.score);
                },
            .done =
                [this](const GenerationTimes& found) {
                  ++done;
                  times = found;
                },
            .failed = [this](const std::string& error) { failures.push_back(error); }};
  }
};

/// A request that occupies the engine's thread until it is released, so that others can be
/// submitted meanwhile.
class Blocker {
 public:
  explicit Blocker(GenerationEngine& engine) {
    GenerationEvents events = outcome_.events();
    events.preview = [this](int64_t, int64_t, const RgbImage&) {
      reached_.set_value();
      released_.get_future().wait();
    };
    engine.submit({.client = "blocker", .caption = "a red circle", .previews = 1}, events);
    reached_.get_future().wait();
  }
  void release() { released_.set_value(); }

 private:
  std::promise<void> reached_, released_;
  Outcome outcome_;
};

/// Submits a request as soon as the queue has room for it.
uint64_t submit_patiently(GenerationEngine& engine, const GenerationRequest& request,
                          const GenerationEvents& events) {
  while (true) {
    try {
      return engine.submit(request, events);
    } catch (const QueueFull&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

CaptionImages images_of(const TrainedDalle& dalle, const GenerationRequest& request,
                        int64_t count) {
  return {.caption = caption_tokens(dalle, request.caption),
          .first_image = request.first_image,
          .count = count,
          .forced = request.forced,
          .variation = request.variation};
}

/// What dalle-sample does.
std::map<int64_t, RgbImage> expected_images(const TrainedDalle& dalle,
                                            const GenerationRequest& request) {
  std::map<int64_t, RgbImage> images;
  const CaptionImages wanted = images_of(dalle, request, request.count);
  generate_images(dalle.model, dalle.vae, std::span(&wanted, 1), request.sampling,
                  {.seed = static_cast<uint64_t>(request.seed)},
                  [&](size_t, int64_t image, const RgbImage& pixels) {
                    images[image] = request.pasted_pixels.defined()
                                        ? paste(request.original, request.pasted_pixels, pixels)
                                        : pixels;
                  });
  return images;
}

/// The codes of an image, [kCodes].
at::Tensor expected_codes(const TrainedDalle& dalle, const GenerationRequest& request,
                          int64_t image) {
  GenerationRequest one = request;
  one.first_image = image;
  return generate_codes(dalle.model, images_of(dalle, one, 1), request.sampling,
                        {.seed = static_cast<uint64_t>(request.seed)})
      .flatten();
}

RgbImage noise_image(std::mt19937& random, int64_t size) {
  RgbImage image{.width = size, .height = size, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(3 * size * size));
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random());
  return image;
}

/// Of any caption, client, seed, sampling settings and image prompt.
GenerationRequest random_request(std::mt19937& random) {
  const std::vector<std::string> captions = {"a red circle", "a small circle", "red background"};
  const std::vector<SamplingConfig> samplings = {
      {},
      {.temperature = 0},
      {.temperature = 0.5, .top_k = 3},
      {.top_p = 0.6},
      {.guidance = 3},
      {.top_k = 9, .guidance = 1.5, .guidance_from = 0.2, .guidance_to = 0.7}};
  GenerationRequest request{.client = std::string(1, static_cast<char>('a' + random() % 3)),
                            .caption = captions[random() % captions.size()],
                            .seed = static_cast<int64_t>(random() % 3),
                            .first_image = static_cast<int64_t>(random() % 4),
                            .count = static_cast<int64_t>(1 + random() % 4),
                            .sampling = samplings[random() % samplings.size()],
                            .previews = static_cast<int64_t>(random() % 3)};
  if (random() % 3 == 0) {
    request.forced = torch::full({kCodes}, kFreeCode, at::kLong);
    for (int64_t p = 0; p < kCodes; ++p)
      if (random() % 2 == 0) request.forced[p] = static_cast<int64_t>(random() % 16);
    request.variation = random() % 2 == 0 ? 0 : 0.5;
  }
  if (random() % 3 == 0) {
    request.original = noise_image(random, 32);
    request.pasted_pixels = keep_upper_rows(0.4, 32);
  }
  return request;
}

TEST(GenerationEngine, GivesTheImagesOfTheSamplerInAnyMixOfRequests) {
  const TrainedDalle dalle = small_trained_dalle();
  std::mt19937 random(1);
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest})
    for (const int64_t batch_size : {1, 3, 16})
      for (const DecodeMode mode : {DecodeMode::kSequential, DecodeMode::kParallel}) {
        std::vector<GenerationRequest> requests;
        for (int i = 0; i < 12; ++i) requests.push_back(random_request(random));
        std::vector<Outcome> outcomes(requests.size());
        GenerationEngine engine(
            small_trained_dalle(),
            {.batch_size = batch_size, .decode = {mode, 4}, .batching = batching});
        int64_t images = 0;
        for (size_t i = 0; i < requests.size(); ++i) {
          engine.submit(requests[i], outcomes[i].events());
          images += requests[i].count;
          if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        engine.drain();
        for (size_t i = 0; i < requests.size(); ++i) {
          EXPECT_EQ(outcomes[i].images, expected_images(dalle, requests[i]));
          EXPECT_EQ(outcomes[i].done, 1);
          EXPECT_THAT(outcomes[i].failures, ElementsAre());
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
    RgbImage pixels = decode_image(dalle.vae, codes);
    best.add({.number = image,
              .score = reranker->score(request.caption, codes, pixels),
              .content = std::move(pixels)});
  }
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest}) {
    GenerationEngine engine(small_trained_dalle(), {.batch_size = 4, .batching = batching});
    EXPECT_EQ(engine.reranker_name(), "likelihood");
    Outcome outcome;
    engine.submit(request, outcome.events());
    engine.drain();
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
    GenerationEngine engine(small_trained_dalle(), {.batch_size = 2});
    Outcome outcome;
    engine.submit(request, outcome.events());
    engine.drain();
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

TEST(GenerationEngine, TakesTurnsBetweenClients) {
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 1});
  Blocker blocker(engine);
  std::vector<std::string> order;
  const auto submit = [&](const std::string& client, int64_t count) {
    engine.submit({.client = client, .caption = "a red circle", .count = count},
                  {.image = [&order, client](const GeneratedImage&) { order.push_back(client); },
                   .done = [](const GenerationTimes&) {},
                   .failed = [](const std::string& error) { ADD_FAILURE() << error; }});
  };
  submit("greedy", 4);
  submit("second", 1);
  submit("third", 2);
  blocker.release();
  engine.drain();
  EXPECT_THAT(order,
              ElementsAre("greedy", "second", "third", "greedy", "third", "greedy", "greedy"));
}

TEST(GenerationEngine, RefusesWhatDoesNotFitIntoItsQueue) {
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 1, .queued_images = 4});
  Blocker blocker(engine);
  std::vector<Outcome> outcomes(3);
  const auto submit = [&](Outcome& outcome, int64_t count) {
    engine.submit({.caption = "a red circle", .count = count}, outcome.events());
  };
  submit(outcomes[0], 3);
  EXPECT_EQ(engine.status().queued, 3);
  try {
    submit(outcomes[1], 2);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const QueueFull& full) {
    EXPECT_GE(full.retry_after_s, 1);
  }
  submit(outcomes[2], 1);
  EXPECT_EQ(error_of([&] { submit(outcomes[1], 5); }),
            "found 5 images to generate for one request, expected at most 4");
  blocker.release();
  engine.drain();
  EXPECT_EQ(outcomes[0].images.size(), 3U);
  EXPECT_EQ(outcomes[1].done + static_cast<int>(outcomes[1].failures.size()), 0);
  EXPECT_EQ(outcomes[2].images.size(), 1U);
}

TEST(GenerationEngine, RefusesInvalidRequests) {
  GenerationEngine engine(small_trained_dalle(/*caption_dropout=*/0), {});
  EXPECT_FALSE(engine.has_reranker());
  Outcome outcome;
  const auto error = [&](const GenerationRequest& request) {
    return error_of([&] { engine.submit(request, outcome.events()); });
  };
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(error({.caption = " "}), HasSubstr("expected words"));
  EXPECT_THAT(error({.caption = "\xff"}), HasSubstr("UTF-8"));
  EXPECT_THAT(error({.caption = "a", .count = 0}), HasSubstr("count: found 0"));
  EXPECT_THAT(error({.caption = "a", .count = kMost}), HasSubstr("expected at most 1024"));
  EXPECT_THAT(error({.caption = "a", .best_of = 2}), HasSubstr("best_of: found 2, but"));
  EXPECT_THAT(error({.caption = "a", .first_image = kMost}), HasSubstr("first_image: found"));
  EXPECT_THAT(error({.caption = "a", .seed = -1}), HasSubstr("seed: found -1"));
  EXPECT_THAT(error({.caption = "a", .previews = 17}), HasSubstr("previews: found 17"));
  EXPECT_THAT(error({.caption = "a", .variation = std::nan("")}), HasSubstr("variation: found"));
  EXPECT_THAT(error({.caption = "a", .sampling = {.top_p = 0}}), HasSubstr("top_p: found 0"));
  EXPECT_EQ(engine.status().queued, 0);
}

TEST(GenerationEngine, ACanceledRequestLeavesAtTheNextToken) {
  const TrainedDalle dalle = small_trained_dalle();
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest}) {
    GenerationEngine engine(small_trained_dalle(), {.batch_size = 1, .batching = batching});
    Outcome canceled, other;
    GenerationEvents events = canceled.events();
    std::promise<uint64_t> number;
    std::shared_future<uint64_t> known = number.get_future().share();
    // Its own event cancels it: after the 8 first codes, or after the first image.
    const bool has_previews = batching == EngineBatching::kContinuous;
    if (has_previews)
      events.preview = [&](int64_t, int64_t, const RgbImage&) { engine.cancel(known.get()); };
    else
      events.image = [&](const GeneratedImage&) { engine.cancel(known.get()); };
    number.set_value(engine.submit(
        {.caption = "a red circle", .count = 3, .previews = has_previews ? 1 : 0}, events));
    const GenerationRequest request{.caption = "a small circle", .count = 2};
    engine.submit(request, other.events());
    engine.drain();
    EXPECT_EQ(other.images, expected_images(dalle, request));
    EXPECT_EQ(canceled.images.size() + canceled.failures.size(), 0U);
    EXPECT_EQ(canceled.done, 0);
    const EngineStatus status = engine.status();
    EXPECT_EQ(status.canceled, has_previews ? 3 : 2);
    EXPECT_EQ(status.codes, (has_previews ? 8 : kCodes) + 2 * kCodes);
    EXPECT_EQ(status.active + status.queued + status.failed, 0);
    engine.cancel(known.get());  // changes nothing
    engine.cancel(12345);
  }
}

TEST(GenerationEngine, ACanceledRequestThatWaitsLeavesTheQueue) {
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 1, .queued_images = 4});
  Blocker blocker(engine);
  Outcome canceled, other;
  const uint64_t number = engine.submit({.caption = "a red circle", .count = 4}, canceled.events());
  engine.cancel(number);
  blocker.release();
  submit_patiently(engine, {.caption = "a red circle", .count = 4}, other.events());
  engine.drain();
  EXPECT_EQ(canceled.images.size(), 0U);
  EXPECT_EQ(other.images.size(), 4U);
  EXPECT_EQ(engine.status().canceled, 4);
}

TEST(GenerationEngine, OnlyTheRequestsOfImagesThatCannotBeCompletedFail) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kCorrupt = 5;  // this code's embedding, in the transformer or the dVAE
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const TrainedDalle dalle = small_trained_dalle();
  for (const bool is_in_dvae : {false, true}) {
    TrainedDalle corrupt = small_trained_dalle();
    if (is_in_dvae)
      corrupt.vae->named_parameters()["decoder.blocks.input.w"].select(1, kCorrupt).fill_(nan);
    else
      corrupt.model->named_parameters()["image_embedding"][kCorrupt].fill_(nan);
    // Few slots, so that images come after failed ones in the same slot.
    GenerationEngine engine(std::move(corrupt), {.batch_size = 3});
    std::vector<GenerationRequest> requests;
    for (int64_t seed = 0; seed < 40; ++seed)
      requests.push_back({.caption = "a red circle", .seed = seed});
    std::vector<Outcome> outcomes(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) engine.submit(requests[i], outcomes[i].events());
    engine.drain();
    int64_t failed = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const at::Tensor codes = expected_codes(dalle, requests[i], 0);
      // The transformer does not read the last code.
      const at::Tensor read = is_in_dvae ? codes : codes.slice(0, 0, kCodes - 1);
      if (read.eq(kCorrupt).any().item<bool>()) {
        ++failed;
        EXPECT_THAT(outcomes[i].failures,
                    ElementsAre(HasSubstr(is_in_dvae ? "not finite" : kNonFiniteLogits)));
        EXPECT_EQ(outcomes[i].done, 0);
      } else {
        EXPECT_EQ(outcomes[i].images, expected_images(dalle, requests[i])) << i;
        EXPECT_EQ(outcomes[i].done, 1);
      }
    }
    EXPECT_GT(failed, 0);
    EXPECT_LT(failed, 40);
    EXPECT_EQ(engine.status().failed, failed);
    EXPECT_EQ(engine.status().finished, 40 - failed);
  }
}

/// The calling thread's next tensor does not get its memory.
thread_local bool has_no_memory = false;

class FailingAllocator : public c10::Allocator {
 public:
  FailingAllocator() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  ~FailingAllocator() override { c10::SetCPUAllocator(before_); }
  FailingAllocator(const FailingAllocator&) = delete;
  FailingAllocator& operator=(const FailingAllocator&) = delete;

  c10::DataPtr allocate(size_t size) override {
    if (std::exchange(has_no_memory, false)) throw std::bad_alloc();
    return before_->allocate(size);
  }
  c10::DeleterFnPtr raw_deleter() const override { return before_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    before_->copy_data(to, from, count);
  }

 private:
  c10::Allocator* before_;
};

TEST(GenerationEngine, GoesOnAfterMemoryRanOut) {
  const TrainedDalle dalle = small_trained_dalle();
  const FailingAllocator allocator;
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 2});
  std::vector<Outcome> outcomes(4);
  std::vector<GenerationRequest> requests;
  for (int64_t seed = 0; seed < 4; ++seed)
    requests.push_back({.caption = "a red circle", .seed = seed});
  requests[0].previews = 1;
  GenerationEvents events = outcomes[0].events();
  std::promise<void> all_submitted;
  // The next tensor of this thread holds the codes of a complete image.
  events.preview = [&](int64_t, int64_t, const RgbImage&) {
    all_submitted.get_future().wait();
    has_no_memory = true;
  };
  engine.submit(requests[0], events);
  for (size_t i = 1; i < 4; ++i) engine.submit(requests[i], outcomes[i].events());
  all_submitted.set_value();
  engine.drain();
  int64_t failed = 0;
  for (size_t i = 0; i < 4; ++i) {
    if (outcomes[i].failures.empty()) {
      EXPECT_EQ(outcomes[i].images, expected_images(dalle, requests[i]));
      continue;
    }
    ++failed;
    EXPECT_THAT(outcomes[i].failures, ElementsAre(HasSubstr("memory ran out")));
  }
  EXPECT_THAT(outcomes[0].failures, ElementsAre(HasSubstr("memory ran out")));
  EXPECT_LE(failed, 2);  // those in progress
  EXPECT_EQ(engine.status().failed, failed);
}

TEST(GenerationEngine, AnEventThatThrowsFailsItsRequestOnly) {
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 2});
  std::vector<Outcome> outcomes(4);
  std::vector<GenerationEvents> events;
  for (Outcome& outcome : outcomes) events.push_back(outcome.events());
  const auto fail = [](const auto&) { throw Error("the event failed"); };
  events[0].image = fail;
  events[1].done = fail;
  events[2].image = fail;
  events[2].failed = fail;
  for (const GenerationEvents& one : events) engine.submit({.caption = "a red circle"}, one);
  engine.drain();
  EXPECT_THAT(outcomes[0].failures, ElementsAre("the event failed"));
  EXPECT_EQ(outcomes[1].failures.size() + outcomes[2].failures.size(), 0U);
  EXPECT_EQ(outcomes[3].done, 1);
}

TEST(GenerationEngine, DrainsAndThenRefusesRequests) {
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 2});
  Outcome first, second;
  GenerationEvents events = first.events();
  std::promise<void> reached, released;
  events.image = [&](const GeneratedImage&) {
    reached.set_value();
    released.get_future().wait();
  };
  engine.submit({.caption = "a red circle"}, events);
  reached.get_future().wait();
  std::thread draining([&] { engine.drain(); });
  const auto is_refused = [&] {
    try {
      engine.submit({.caption = "a red circle"}, second.events());
    } catch (const EngineDraining&) {
      return true;
    }
    return false;
  };
  while (!is_refused()) std::this_thread::yield();
  EXPECT_EQ(first.done, 0);
  released.set_value();
  draining.join();
  EXPECT_EQ(first.done, 1);
  engine.drain();
  EXPECT_TRUE(is_refused());
}

TEST(GenerationEngine, CancelsWhatIsNotFinishedWhenItIsDestroyed) {
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest}) {
    std::promise<void> reached;
    Outcome outcome;
    GenerationEvents events = outcome.events();
    events.image = [&, n = 0](const GeneratedImage&) mutable {
      if (n++ == 0) reached.set_value();
    };
    {
      GenerationEngine engine(
          small_trained_dalle(),
          {.batch_size = 2, .queued_images = int64_t{1} << 40, .batching = batching});
      engine.submit({.caption = "a red circle", .count = int64_t{1} << 40}, events);
      reached.get_future().wait();
    }
    EXPECT_EQ(outcome.done, 0);
    EXPECT_EQ(outcome.failures.size(), 0U);
  }
}

TEST(GenerationEngine, ServesManyThreadsThatSubmitAndCancel) {
  const TrainedDalle dalle = small_trained_dalle();
  GenerationEngine engine(small_trained_dalle(), {.batch_size = 5, .queued_images = 12});
  constexpr int kThreads = 6, kRequests = 12;
  std::vector<std::vector<GenerationRequest>> requests(kThreads);
  std::vector<std::vector<Outcome>> outcomes(kThreads, std::vector<Outcome>(kRequests));
  std::vector<std::set<int>> canceled(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      const auto of = static_cast<size_t>(t);
      for (int i = 0; i < kRequests; ++i) {
        requests[of].push_back(random_request(random));
        const uint64_t number = submit_patiently(engine, requests[of].back(),
                                                 outcomes[of][static_cast<size_t>(i)].events());
        if (random() % 3 == 0) {
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
          engine.cancel(number);
          canceled[of].insert(i);
        }
        EXPECT_GE(engine.status().active, 0);
      }
    });
  for (std::thread& thread : threads) thread.join();
  engine.drain();
  for (size_t t = 0; t < kThreads; ++t)
    for (size_t i = 0; i < kRequests; ++i) {
      const Outcome& outcome = outcomes[t][i];
      EXPECT_THAT(outcome.failures, ElementsAre());
      if (canceled[t].contains(static_cast<int>(i))) continue;
      EXPECT_EQ(outcome.images, expected_images(dalle, requests[t][i]));
    }
  EXPECT_EQ(engine.status().active + engine.status().queued, 0);
}

TEST(GenerationEngine, UsesNoProcessorTimeWhileIdle) {
  const GenerationEngine engine(small_trained_dalle(), {});
  const auto used_ms = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
  };
  const auto before = used_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(used_ms() - before, 100);
}

}  // namespace
}  // namespace dalle
