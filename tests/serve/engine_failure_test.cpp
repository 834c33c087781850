#include <future>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include "sample/token_sampler.h"
#include "serve/engine_requests.h"

namespace dalle::engine_test {
namespace {

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
    AwaitedEngine engine(std::move(corrupt), {.batch_size = 3});
    std::vector<GenerationRequest> requests;
    for (int64_t seed = 0; seed < 40; ++seed)
      requests.push_back({.caption = "a red circle", .seed = seed});
    std::vector<Outcome> outcomes(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) engine.submit(requests[i], outcomes[i].events());
    engine.wait_until_idle();
    int64_t failed = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const at::Tensor codes = expected_codes(dalle, requests[i], 0);
      // The transformer does not read the last code.
      const at::Tensor read = is_in_dvae ? codes : codes.slice(0, 0, kCodes - 1);
      if (read.eq(kCorrupt).any().item<bool>()) {
        ++failed;
        EXPECT_THAT(
            outcomes[i].failures,
            testing::ElementsAre(testing::HasSubstr(is_in_dvae ? "not finite" : kNonFiniteLogits)));
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
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 2});
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
  engine.wait_until_idle();
  int64_t failed = 0;
  for (size_t i = 0; i < 4; ++i) {
    if (outcomes[i].failures.empty()) {
      EXPECT_EQ(outcomes[i].images, expected_images(dalle, requests[i]));
      continue;
    }
    ++failed;
    EXPECT_THAT(outcomes[i].failures, testing::ElementsAre(testing::HasSubstr("out of memory")));
  }
  EXPECT_THAT(outcomes[0].failures, testing::ElementsAre(testing::HasSubstr("out of memory")));
  EXPECT_LE(failed, 2);  // those in progress
  EXPECT_EQ(engine.status().failed, failed);
}

TEST(GenerationEngine, AnEventThatThrowsFailsItsRequestOnly) {
  AwaitedEngine engine(small_trained_dalle(), {.batch_size = 2});
  std::vector<Outcome> outcomes(4);
  std::vector<GenerationEvents> events;
  for (Outcome& outcome : outcomes) events.push_back(outcome.events());
  const auto fail = [](const auto&) { throw Error("the event failed"); };
  events[0].image = fail;
  events[1].done = fail;
  events[2].image = fail;
  events[2].failed = fail;
  for (const GenerationEvents& one : events) engine.submit({.caption = "a red circle"}, one);
  engine.wait_until_idle();
  EXPECT_THAT(outcomes[0].failures, testing::ElementsAre("the event failed"));
  EXPECT_EQ(outcomes[1].failures.size() + outcomes[2].failures.size(), 0U);
  EXPECT_EQ(outcomes[3].done, 1);
}

}  // namespace
}  // namespace dalle::engine_test
