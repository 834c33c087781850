#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>

#include "data/batch.h"

namespace dalle {

struct BatchLoaderOptions {
  int64_t batch_size = 1;
  int64_t first_position = 0;  ///< global position of the first sample
  int64_t workers = 2;         ///< threads that make samples
  int64_t prefetch = 4;        ///< batches prepared in advance
  bool pin_memory = false;     ///< for batches that go to a GPU
  /// One past the last sample; the last batch may be smaller.
  int64_t end_position = std::numeric_limits<int64_t>::max();
};

/// Makes batches in advance on worker threads and returns them in order, whatever the number of
/// workers.
///
/// Workers claim single samples, so that all of them contribute even to one large batch; the one
/// that makes the last sample of a batch stacks it. An error in a worker is rethrown by the next()
/// that would have returned the sample (the first failed sample of the batch) and by every later
/// call. The destructor waits for the samples in progress.
///
/// ATen operators in workers are single-threaded, because nested parallelism is slower. The
/// constructor temporarily changes ATen's default thread count, so no other thread may use ATen for
/// the first time during the call.
class BatchLoader {
 public:
  /// Called from several threads concurrently.
  using MakeSample = std::function<Sample(int64_t position)>;

  BatchLoader(MakeSample make_sample, const BatchLoaderOptions& options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// Returns the next batch_size samples, fewer at the end and none after it. Not thread-safe.
  Batch next();

  /// The total time that next() has waited for workers, in seconds.
  double wait_s() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
