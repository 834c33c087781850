#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "error_of.h"
#include "serve/engine_requests.h"

namespace dalle::engine_test {
namespace {

TEST(GenerationEngine, TakesTurnsBetweenClients) {
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 1});
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
  engine.wait_until_idle();
  EXPECT_THAT(order, testing::ElementsAre("greedy", "second", "third", "greedy", "third", "greedy",
                                          "greedy"));
}

TEST(GenerationEngine, RefusesWhatDoesNotFitIntoItsQueue) {
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 1, .queued_images = 4});
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
            "this request needs 5 images, but the queue holds at most 4 (--queue)");
  blocker.release();
  engine.wait_until_idle();
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
  EXPECT_THAT(error({.caption = " "}), testing::HasSubstr("expected words"));
  EXPECT_THAT(error({.caption = "\xff"}), testing::HasSubstr("UTF-8"));
  EXPECT_THAT(error({.caption = "a", .count = 0}), testing::HasSubstr("count: found 0"));
  EXPECT_THAT(error({.caption = "a", .count = kMost}),
              testing::HasSubstr("the queue holds at most 1024"));
  EXPECT_THAT(error({.caption = "a", .best_of = 2}), testing::HasSubstr("best_of: found 2, but"));
  EXPECT_THAT(error({.caption = "a", .first_image = kMost}),
              testing::HasSubstr("first_image: found"));
  EXPECT_THAT(error({.caption = "a", .seed = -1}), testing::HasSubstr("seed: found -1"));
  EXPECT_THAT(error({.caption = "a", .previews = 17}), testing::HasSubstr("previews: found 17"));
  EXPECT_THAT(error({.caption = "a", .variation = std::nan("")}),
              testing::HasSubstr("variation: found"));
  EXPECT_THAT(error({.caption = "a", .sampling = {.top_p = 0}}),
              testing::HasSubstr("top_p: found 0"));
  EXPECT_EQ(engine.status().queued, 0);
}

TEST(GenerationEngine, ACanceledRequestLeavesAtTheNextToken) {
  const TrainedDalle dalle = small_trained_dalle();
  for (const EngineBatching batching : {EngineBatching::kContinuous, EngineBatching::kOneRequest}) {
    AwaitedEngine engine(small_trained_dalle(), {.batch_size = 1, .batching = batching});
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
    engine.wait_until_idle();
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
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 1, .queued_images = 4});
  Blocker blocker(engine);
  Outcome canceled, other;
  const uint64_t number = engine.submit({.caption = "a red circle", .count = 4}, canceled.events());
  engine.cancel(number);
  blocker.release();
  submit_patiently(engine, {.caption = "a red circle", .count = 4}, other.events());
  engine.wait_until_idle();
  EXPECT_EQ(canceled.images.size(), 0U);
  EXPECT_EQ(other.images.size(), 4U);
  EXPECT_EQ(engine.status().canceled, 4);
}

TEST(GenerationEngine, CountsAnImageBeforeItIsReported) {
  AwaitedEngine engine(small_trained_dalle(), {});
  std::vector<int64_t> finished;
  GenerationEvents events = no_events();
  events.image = [&](const GeneratedImage&) { finished.push_back(engine.status().finished); };
  engine.submit({.caption = "a red circle", .count = 3}, events);
  engine.wait_until_idle();
  EXPECT_THAT(finished, testing::ElementsAre(1, 2, 3));
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
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 5, .queued_images = 12});
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
  engine.wait_until_idle();
  for (size_t t = 0; t < kThreads; ++t)
    for (size_t i = 0; i < kRequests; ++i) {
      const Outcome& outcome = outcomes[t][i];
      EXPECT_THAT(outcome.failures, testing::ElementsAre());
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
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(300)); };
  wait();  // the threads of the last parallel loop spin for up to 200 ms
  const auto before = used_ms();
  wait();
  EXPECT_LT(used_ms() - before, 100);
}

}  // namespace
}  // namespace dalle::engine_test
