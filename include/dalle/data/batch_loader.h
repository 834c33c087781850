#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "dalle/data/batch.h"

namespace dalle {

struct BatchLoaderOptions {
  int64_t batch_size = 1;
  int64_t first_position = 0;  ///< global position of the first sample: step * global batch size
  int64_t workers = 2;         ///< threads that make samples
  int64_t prefetch = 4;        ///< batches made ahead of the one in use
};

/// Makes batches on worker threads ahead of time and hands them out in exact order, whatever the
/// number of workers.
///
/// An error in a worker surfaces in the next() that would have returned its sample. Destruction
/// stops the workers after the sample each is at.
class BatchLoader {
 public:
  using MakeSample = std::function<Sample(int64_t position)>;

  BatchLoader(MakeSample make_sample, const BatchLoaderOptions& options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  Batch next();

  /// Seconds next() has waited for workers so far.
  double wait_s() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
