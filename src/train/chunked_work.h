#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "core/stop_signal.h"
#include "dist/process_group.h"
#include "train/chunk_store.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// The items [begin, end) of some work.
struct Chunk {
  int64_t begin = 0;
  int64_t end = 0;
  CheckStop check_stop;                             ///< for long chunks to call from time to time
  std::function<void(int64_t units)> add_progress;  ///< likewise
};

/// How a rank uses its threads: each for chunks of its own, or all of them for one chunk at a time,
/// which needs less memory, but then results must not depend on the number of threads.
enum class ChunkThreads { kOneEach, kAllTogether };

/// Numbered items, and how they are divided into chunks. This must not depend on ranks or threads.
struct ChunkedPhase {
  std::string what;    ///< names the progress and its unit: "likelihood: images"
  std::string folder;  ///< of the phase in the store: "likelihood/images"
  int64_t items = 0;
  int64_t chunk_size = 1;
  int64_t units = 1;  ///< of progress per item
  ChunkThreads threads = ChunkThreads::kOneEach;

  int64_t chunks() const { return (items + chunk_size - 1) / chunk_size; }
};

/// Divides work into chunks, and these among ranks and threads. The result of a chunk depends on
/// neither: on a CPU one thread computes it, because the division of a matrix product or of a sum
/// among threads affects rounding. From construction to destruction, this thread's own operations
/// therefore use one thread, too.
///
/// Finished chunks are stored from time to time, and when the work is stopped or fails.
class ChunkedWork {
 public:
  /// @param group       the ranks that share the work; must outlive this object
  /// @param check_stop  called from several threads
  /// @param device      that computes the chunks; on a GPU, one at a time
  explicit ChunkedWork(
      ProcessGroup& group, CheckStop check_stop = [] {}, c10::Device device = c10::kCPU,
      ChunkStore store = {});
  ~ChunkedWork();
  ChunkedWork(const ChunkedWork&) = delete;
  ChunkedWork& operator=(const ChunkedWork&) = delete;

  bool is_rank_zero() const { return group_.is_rank_zero(); }
  int64_t rank() const { return group_.rank(); }
  int threads() const { return threads_; }
  void check_stop() const { check_stop_(); }

  /// What `find` returns for each chunk, in order, on every rank. A collective; chunks that are
  /// stored are not computed again.
  ///
  /// @param find  called from several threads, without gradients; must not call collectives
  /// @throws StopRequested on all ranks if check_stop() throws it on one
  /// @throws dalle::Error on all ranks if `find` throws on one: see run_on_ranks()
  std::vector<nlohmann::ordered_json> records(
      const ChunkedPhase& phase, const std::function<nlohmann::ordered_json(const Chunk&)>& find);

 private:
  ChunkRecords compute(const ChunkedPhase& phase, const std::vector<int64_t>& chunks,
                       const std::function<nlohmann::ordered_json(const Chunk&)>& find) const;

  ProcessGroup& group_;
  CheckStop check_stop_;
  ChunkStore store_;
  int caller_threads_;  ///< before construction
  int threads_;
};

}  // namespace dalle
