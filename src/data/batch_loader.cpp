#include "data/batch_loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <latch>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/seconds.h"

namespace dalle {
namespace {

/// A batch under construction. The worker that makes its last missing sample stacks it.
struct Slot {
  std::vector<Sample> samples;
  int64_t missing = 0;
  std::exception_ptr error;  ///< of the earliest sample that failed
  int64_t error_position = 0;
  Batch batch;
  bool ready = false;
};

}  // namespace

struct BatchLoader::Implementation {
  Implementation(MakeSample make, const BatchLoaderOptions& loader_options);
  ~Implementation();

  Slot& slot(int64_t batch) { return slots[static_cast<size_t>(batch % options.prefetch)]; }
  int64_t batch_of(int64_t position) const {
    return (position - options.first_position) / options.batch_size;
  }
  int64_t first_of(int64_t batch) const {
    return options.first_position + batch * options.batch_size;
  }
  int64_t size_of(int64_t batch) const {
    return std::clamp<int64_t>(options.end_position - first_of(batch), 0, options.batch_size);
  }

  void prepare(int64_t batch);
  void work(const std::stop_token& stop);
  void make_one(int64_t position, std::unique_lock<std::mutex>& lock);
  void finish(Slot& done, std::unique_lock<std::mutex>& lock);

  const MakeSample make_sample;
  const BatchLoaderOptions options;
  mutable std::mutex mutex;          ///< guards all members below
  std::condition_variable_any room;  ///< signaled when a slot is freed
  std::condition_variable finished;  ///< signaled when a batch is ready
  std::vector<Slot> slots;
  int64_t next_position;   ///< first position that no worker has claimed
  int64_t next_batch = 0;  ///< the batch that next() returns
  double wait_s = 0;
  std::latch started;  ///< counts the workers that have set their thread count
  std::vector<std::jthread> threads;
};

BatchLoader::Implementation::Implementation(MakeSample make,
                                            const BatchLoaderOptions& loader_options)
    : make_sample(std::move(make)),
      options(loader_options),
      slots(static_cast<size_t>(loader_options.prefetch)),
      next_position(loader_options.first_position),
      started(loader_options.workers) {
  for (int64_t batch = 0; batch < options.prefetch; ++batch) prepare(batch);

  // at::set_num_threads() sets the count of the calling thread and the global default that other
  // threads copy on first use. Each worker therefore reads the default before it sets its own
  // count, and the default is restored after all workers have done so. (c10::ParallelGuard is not
  // an alternative: OpenMP builds of ATen ignore it.)
  const int default_threads = at::get_num_threads();
  threads.reserve(static_cast<size_t>(options.workers));
  for (int64_t i = 0; i < options.workers; ++i)
    threads.emplace_back([this](const std::stop_token& stop) {
      at::get_num_threads();
      at::set_num_threads(1);
      started.count_down();
      work(stop);
    });
  started.wait();
  at::set_num_threads(default_threads);
}

BatchLoader::Implementation::~Implementation() {
  for (std::jthread& thread : threads)
    thread.request_stop();  // all of them before the first is joined
}

/// Resets the slot of `batch`.
void BatchLoader::Implementation::prepare(int64_t batch) {
  const int64_t size = size_of(batch);
  slot(batch) = Slot{};
  slot(batch).samples.resize(static_cast<size_t>(size));
  slot(batch).missing = size;
  slot(batch).ready = size == 0;
}

void BatchLoader::Implementation::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  const auto may_claim = [this] {
    return next_position < options.end_position &&
           batch_of(next_position) < next_batch + options.prefetch;
  };
  while (room.wait(lock, stop, may_claim) && !stop.stop_requested())
    make_one(next_position++, lock);
}

/// Makes one sample without holding the lock, and finishes its batch if it was the last one
/// missing.
void BatchLoader::Implementation::make_one(int64_t position, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  Sample sample;
  std::exception_ptr error;
  try {
    sample = make_sample(position);
  } catch (...) {
    error = std::current_exception();  // rethrown by next()
  }
  lock.lock();
  const int64_t batch = batch_of(position);
  Slot& target = slot(batch);
  target.samples[static_cast<size_t>(position - first_of(batch))] = std::move(sample);
  if (error && (!target.error || position < target.error_position)) {
    target.error = error;
    target.error_position = position;
  }
  if (--target.missing == 0) finish(target, lock);
}

void BatchLoader::Implementation::finish(Slot& done, std::unique_lock<std::mutex>& lock) {
  if (!done.error) {
    lock.unlock();  // no other thread accesses the slot until it is ready
    try {
      done.batch = stack(done.samples);
      if (options.pin_memory) done.batch.pin();
    } catch (...) {
      done.error = std::current_exception();
    }
    done.samples.clear();
    lock.lock();
  }
  done.ready = true;
  finished.notify_all();
}

BatchLoader::BatchLoader(MakeSample make_sample, const BatchLoaderOptions& options) {
  DALLE_CHECK(options.batch_size > 0 && options.workers > 0 && options.prefetch > 0);
  DALLE_CHECK(0 <= options.first_position && options.first_position <= options.end_position);
  implementation_ = std::make_unique<Implementation>(std::move(make_sample), options);
}

BatchLoader::~BatchLoader() = default;

Batch BatchLoader::next() {
  Implementation& loader = *implementation_;
  std::unique_lock lock(loader.mutex);
  Slot& current = loader.slot(loader.next_batch);
  if (!current.ready) {
    const auto begin = std::chrono::steady_clock::now();
    loader.finished.wait(lock, [&] { return current.ready; });
    loader.wait_s += seconds_since(begin);
  }
  if (current.error) std::rethrow_exception(current.error);
  Batch batch = std::move(current.batch);
  const int64_t freed = loader.next_batch++;
  loader.prepare(freed + loader.options.prefetch);
  loader.room.notify_all();
  return batch;
}

double BatchLoader::wait_s() const {
  const std::lock_guard lock(implementation_->mutex);
  return implementation_->wait_s;
}

}  // namespace dalle
