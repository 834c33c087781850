#include "train/chunked_work.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "core/log.h"
#include "core/progress.h"
#include "train/rank_shares.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using nlohmann::ordered_json;
using FindRecord = std::function<ordered_json(const Chunk&)>;

/// The chunks of one rank, which its threads take one after the other.
class ChunkQueue {
 public:
  ChunkQueue(const ChunkedPhase& phase, const std::vector<int64_t>& chunks, const ChunkStore& store,
             const CheckStop& check_stop, bool shows_progress)
      : phase_(phase), chunks_(chunks), store_(store), check_stop_(check_stop) {
    int64_t units = 0;
    for (const int64_t chunk : chunks) units += units_of(chunk);
    if (shows_progress) progress_.emplace(phase.what, units);
  }

  /// Computes chunks until none is left, or one has failed.
  void work(const FindRecord& find) {
    const torch::NoGradGuard no_grad;
    while (const std::optional<int64_t> chunk = next()) {
      try {
        check_stop_();
        int64_t reported = 0;
        const auto report = [&](int64_t units) {
          reported += units;
          add_progress(units);
        };
        ordered_json record = find({.begin = begin_of(*chunk),
                                    .end = begin_of(*chunk + 1),
                                    .check_stop = check_stop_,
                                    .add_progress = report});
        add(*chunk, std::move(record));
        add_progress(units_of(*chunk) - reported);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
  }

  /// Stores what has been found, and throws again what failed.
  ChunkRecords finish() {
    store();
    if (failure_) std::rethrow_exception(failure_);
    return std::move(found_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// How much work a crash may lose, besides unfinished chunks.
  static constexpr auto kStoreEvery = std::chrono::seconds(10);

  int64_t begin_of(int64_t chunk) const {
    return std::min(chunk * phase_.chunk_size, phase_.items);
  }
  int64_t units_of(int64_t chunk) const {
    return phase_.units * (begin_of(chunk + 1) - begin_of(chunk));
  }

  std::optional<int64_t> next() {
    const std::lock_guard lock(mutex_);
    if (failure_ || next_ == chunks_.size()) return std::nullopt;
    return chunks_[next_++];
  }

  void add(int64_t chunk, ordered_json record) {
    const std::lock_guard lock(mutex_);
    new_.emplace(chunk, record);
    found_.emplace(chunk, std::move(record));
    if (Clock::now() >= next_store_) store();
  }

  void add_progress(int64_t units) {
    const std::lock_guard lock(mutex_);
    done_ += units;
    if (progress_) progress_->update(done_);
  }

  void store() {
    store_.write(phase_.folder, new_);
    new_.clear();
    next_store_ = Clock::now() + kStoreEvery;
  }

  const ChunkedPhase& phase_;
  const std::vector<int64_t>& chunks_;
  const ChunkStore& store_;
  const CheckStop& check_stop_;
  std::optional<Progress> progress_;
  std::mutex mutex_;
  size_t next_ = 0;
  int64_t done_ = 0;
  ChunkRecords found_, new_;  ///< all, and those that are not stored yet
  Clock::time_point next_store_ = Clock::now() + kStoreEvery;
  std::exception_ptr failure_;
};

/// The records that are stored, of which rank 0 decides, so that all ranks agree.
struct StoredRecords {
  ChunkRecords records;          ///< on rank 0
  std::vector<int64_t> missing;  ///< on all ranks
};

StoredRecords read_stored(ProcessGroup& group, const ChunkStore& store, const ChunkedPhase& phase) {
  StoredRecords stored;
  std::vector<int64_t> missing;
  if (group.is_rank_zero()) {
    stored.records = store.read(phase.folder);
    for (int64_t chunk = 0; chunk < phase.chunks(); ++chunk)
      if (!stored.records.contains(chunk)) missing.push_back(chunk);
    if (!stored.records.empty())
      log_info("{}: resuming, {} of {} chunks are done", phase.what, stored.records.size(),
               phase.chunks());
  }
  stored.missing = ordered_json::parse(group.broadcast(ordered_json(missing).dump()))
                       .get<std::vector<int64_t>>();
  return stored;
}

}  // namespace

ChunkedWork::ChunkedWork(ProcessGroup& group, CheckStop check_stop, c10::Device device,
                         ChunkStore store)
    : group_(group),
      check_stop_(std::move(check_stop)),
      store_(std::move(store)),
      caller_threads_(at::get_num_threads()),
      threads_(device.is_cpu() ? caller_threads_ : 1) {
  at::set_num_threads(1);
}

ChunkedWork::~ChunkedWork() {
  at::set_num_threads(caller_threads_);
}

std::vector<ordered_json> ChunkedWork::records(const ChunkedPhase& phase, const FindRecord& find) {
  StoredRecords stored = read_stored(group_, store_, phase);
  const std::vector<std::string> parts =
      run_on_ranks(group_, check_stop_, [&](const RankShare& share) {
        std::vector<int64_t> own;
        for (size_t i = 0; i < stored.missing.size(); ++i)
          if (share.has(static_cast<int64_t>(i))) own.push_back(stored.missing[i]);
        ChunkRecords found = compute(phase, own, find);
        found.merge(stored.records);
        return to_bytes(found);
      });
  ChunkRecords all;
  for (const std::string& part : parts) all.merge(chunk_records(part));
  std::vector<ordered_json> result;
  for (int64_t chunk = 0; chunk < phase.chunks(); ++chunk)
    result.push_back(std::move(all.at(chunk)));
  return result;
}

ChunkRecords ChunkedWork::compute(const ChunkedPhase& phase, const std::vector<int64_t>& chunks,
                                  const FindRecord& find) const {
  ChunkQueue queue(phase, chunks, store_, check_stop_, /*shows_progress=*/is_rank_zero());
  if (phase.threads == ChunkThreads::kAllTogether) {
    at::set_num_threads(threads_);
    queue.work(find);
    at::set_num_threads(1);
    return queue.finish();
  }
  const size_t others = std::min(static_cast<size_t>(threads_), chunks.size());
  {
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < others; ++i)
      threads.emplace_back([&] {
        at::set_num_threads(1);
        queue.work(find);
      });
    queue.work(find);
  }
  return queue.finish();
}

}  // namespace dalle
