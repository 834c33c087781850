#include "data/batch_loader.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <semaphore>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/seeds.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

Sample sample_of(int64_t position) {
  return {.position = position,
          .image = torch::full({3, 2, 2}, position % 256, torch::kByte),
          .codes = {},
          .caption = torch::full({4}, position, torch::kLong),
          .text = std::to_string(position)};
}

/// Takes up to 2 ms depending on the position, so that samples finish out of order.
Sample delayed_sample(int64_t position) {
  SeedStream random(static_cast<uint64_t>(position));
  std::this_thread::sleep_for(std::chrono::microseconds(random.below(2000)));
  return sample_of(position);
}

void expect_samples(const Batch& batch, int64_t first, int64_t size) {
  ASSERT_EQ(batch.size(), size);
  for (int64_t i = 0; i < size; ++i) {
    const Sample expected = sample_of(first + i);
    EXPECT_EQ(batch.positions[static_cast<size_t>(i)], expected.position);
    EXPECT_EQ(batch.texts[static_cast<size_t>(i)], expected.text);
    EXPECT_TRUE(torch::equal(batch.images[i], expected.image));
    EXPECT_TRUE(torch::equal(batch.captions[i], expected.caption));
  }
}

TEST(BatchLoaderTest, KeepsTheOrderForAnyWorkersAndPrefetch) {
  for (const int64_t workers : {1, 2, 3, 8})
    for (const int64_t prefetch : {1, 2, 7})
      for (const int64_t batch_size : {1, 5}) {
        BatchLoader loader(delayed_sample, {.batch_size = batch_size,
                                            .first_position = 0,
                                            .workers = workers,
                                            .prefetch = prefetch});
        for (int64_t batch = 0; batch < 12; ++batch)
          expect_samples(loader.next(), batch * batch_size, batch_size);
      }
}

TEST(BatchLoaderTest, ResumesWithTheTailOfAFullRun) {
  BatchLoader resumed(delayed_sample,
                      {.batch_size = 4, .first_position = 4 * 9, .workers = 3, .prefetch = 2});
  for (int64_t batch = 9; batch < 15; ++batch) expect_samples(resumed.next(), 4 * batch, 4);
}

TEST(BatchLoaderTest, EndsWithASmallerBatchAndThenNone) {
  BatchLoader loader(
      delayed_sample,
      {.batch_size = 4, .first_position = 3, .workers = 3, .prefetch = 2, .end_position = 13});
  expect_samples(loader.next(), 3, 4);
  expect_samples(loader.next(), 7, 4);
  expect_samples(loader.next(), 11, 2);
  EXPECT_EQ(loader.next().size(), 0);
  EXPECT_EQ(loader.next().size(), 0);
}

TEST(BatchLoaderTest, MakesEachSampleOnceAndNoneBeyondThePrefetch) {
  std::mutex mutex;
  std::multiset<int64_t> made;
  const auto made_so_far = [&] {
    const std::lock_guard lock(mutex);
    return std::vector<int64_t>(made.begin(), made.end());
  };
  BatchLoader loader(
      [&](int64_t position) {
        const std::lock_guard lock(mutex);
        made.insert(position);
        return sample_of(position);
      },
      {.batch_size = 3, .workers = 4, .prefetch = 2});
  loader.next();  // frees one slot, so three batches in total
  while (made_so_far().size() < 9) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_THAT(made_so_far(), testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
}

TEST(BatchLoaderTest, DividesABatchAmongWorkers) {
  std::atomic<int> meeting = 0;
  // Each sample waits until four are in progress, so a batch of four needs four workers.
  const auto meet = [&](int64_t position) {
    ++meeting;
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (meeting < 4 && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(1ms);
    if (meeting < 4) throw Error("worker left alone");
    return sample_of(position);
  };
  BatchLoader loader(meet, {.batch_size = 4, .workers = 4, .prefetch = 1, .end_position = 4});
  expect_samples(loader.next(), 0, 4);
}

TEST(BatchLoaderTest, RethrowsAnErrorInPlaceOfItsSample) {
  for (const int64_t workers : {1, 3}) {
    const auto fail_at_ten = [](int64_t position) {
      if (position == 11) throw std::runtime_error("eleven");  // may occur first
      if (position == 10) {
        std::this_thread::sleep_for(3ms);
        throw Error("sample {} is bad", position);
      }
      return sample_of(position);
    };
    BatchLoader loader(fail_at_ten, {.batch_size = 4, .workers = workers, .prefetch = 4});
    std::this_thread::sleep_for(10ms);
    expect_samples(loader.next(), 0, 4);
    expect_samples(loader.next(), 4, 4);
    for (int again = 0; again < 2; ++again) {
      try {
        loader.next();
        FAIL() << "no error";
      } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "sample 10 is bad");
      }
    }
  }
}

TEST(BatchLoaderTest, ReportsSamplesThatCannotBeStacked) {
  const auto growing = [](int64_t position) {
    Sample sample = sample_of(position);
    sample.image = torch::zeros({3, position + 1, 2}, torch::kByte);
    return sample;
  };
  BatchLoader loader(growing, {.batch_size = 2, .workers = 2, .prefetch = 1});
  EXPECT_THROW(loader.next(), Error);
}

TEST(BatchLoaderTest, CanBeDestroyedWhileWorkersAreBusy) {
  std::atomic<int> running = 0;
  std::atomic<int> started = 0;
  const auto slow = [&](int64_t position) {
    ++running;
    ++started;
    std::this_thread::sleep_for(30ms);
    --running;
    return sample_of(position);
  };
  {
    BatchLoader loader(slow, {.batch_size = 100, .workers = 4, .prefetch = 4});
    while (running < 4) std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(running, 0);
  EXPECT_LT(started, 100) << "workers went on after the sample each was at";
}

TEST(BatchLoaderTest, CanBeDestroyedWhileWorkersWait) {
  BatchLoader loader(sample_of, {.batch_size = 1, .workers = 8, .prefetch = 1});
  loader.next();
  std::this_thread::sleep_for(5ms);  // until all slots are full; a deadlock would time the test out
}

TEST(BatchLoaderTest, MeasuresTheTimeItWaited) {
  std::binary_semaphore go(0);
  std::binary_semaphore past_the_first(0);
  const auto held = [&](int64_t position) {
    if (position == 1) go.acquire();
    if (position == 2) past_the_first.release();  // by the worker that finished batch 0
    return sample_of(position);
  };
  BatchLoader loader(held, {.batch_size = 1, .workers = 2, .prefetch = 3, .end_position = 3});
  past_the_first.acquire();
  loader.next();
  EXPECT_EQ(loader.wait_s(), 0) << "it was there";
  std::jthread release([&] {
    std::this_thread::sleep_for(60ms);
    go.release();
  });
  loader.next();
  EXPECT_GE(loader.wait_s(), 0.05);
}

TEST(BatchLoaderTest, LimitsAtenToOneThreadInWorkersOnly) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  std::atomic<int> most = 0;
  {
    BatchLoader loader(
        [&](int64_t position) {
          int seen = most;
          while (seen < at::get_num_threads() &&
                 !most.compare_exchange_weak(seen, at::get_num_threads())) {
          }
          return sample_of(position);
        },
        {.batch_size = 8, .workers = 2, .prefetch = 1});
    loader.next();
    EXPECT_EQ(at::get_num_threads(), 3);
    int later = 0;
    std::jthread([&] { later = at::get_num_threads(); }).join();
    EXPECT_EQ(later, 3);
  }
  EXPECT_EQ(most, 1);
  at::set_num_threads(before);
}

TEST(BatchLoaderTest, RejectsInvalidOptions) {
  for (const BatchLoaderOptions& options :
       {BatchLoaderOptions{.batch_size = 0}, BatchLoaderOptions{.first_position = -1},
        BatchLoaderOptions{.first_position = 5, .end_position = 4},
        BatchLoaderOptions{.workers = 0}, BatchLoaderOptions{.prefetch = 0}})
    EXPECT_THROW(BatchLoader(sample_of, options), std::logic_error);
}

}  // namespace
}  // namespace dalle
