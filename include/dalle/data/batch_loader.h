#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>

#include "dalle/data/batch.h"

namespace dalle {

struct BatchLoaderOptions {
  int64_t batch_size = 1;
  int64_t first_position = 0;  ///< global position of the first sample: step * global batch size
  int64_t workers = 2;         ///< threads that make samples
  int64_t prefetch = 4;        ///< batches made ahead of the one in use
  /// Behind the last sample, which may leave the last batch smaller.
  int64_t end_position = std::numeric_limits<int64_t>::max();
};

/// Makes batches on worker threads ahead of time and hands them out in exact order, whatever the
/// number of workers.
///
/// Workers share the work by samples, so that many of them help with one big batch; whichever
/// finishes a batch's last sample stacks it. An error in a worker surfaces in the next() that would
/// have returned its sample (the first one, where a batch holds several), and in every next() after
/// it. Destruction stops the workers after the sample each is at.
///
/// ATen's operators run on one thread in the workers: teams of threads within teams are slower. The
/// constructor changes ATen's common thread count for a moment, so no other thread may enter ATen
/// for the first time meanwhile.
class BatchLoader {
 public:
  /// Called from several threads at once.
  using MakeSample = std::function<Sample(int64_t position)>;

  BatchLoader(MakeSample make_sample, const BatchLoaderOptions& options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next batch_size samples; fewer at the end, and none behind it. For one caller at a time.
  Batch next();

  /// Seconds next() has waited for workers so far.
  double wait_s() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
