#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/decode_batch.h"
#include "sample/decode_config.h"
#include "serve/engine/engine_request.h"
#include "serve/engine/fair_queue.h"

namespace dalle {

class GenerationJob;

enum class EngineBatching { kContinuous, kOneRequest };

struct EngineOptions {
  int64_t batch_size = 0;        ///< images in progress at once; 0: default_batch_size()
  int64_t queued_images = 1024;  ///< that may wait
  DecodeConfig decode = {};
  /// The folder of the contrastive model for best_of. Empty: that of the same run or, if it has
  /// none, the likelihood if the model was trained with caption dropout, or else no reranker.
  std::filesystem::path reranker = {};
  std::optional<RankBy> rank_by = {};  ///< nothing: whichever of the above there is
  /// Nothing: continuous on a CPU, the images of one request at a time on other devices.
  std::optional<EngineBatching> batching = {};
};

/// Counts of images, except `codes` and `seconds_per_image`.
struct EngineStatus {
  int64_t queued = 0;
  int64_t active = 0;
  int64_t slots = 0;
  int64_t finished = 0;  ///< since the start, like the next three
  int64_t canceled = 0;
  int64_t failed = 0;  ///< those of requests that failed and were not finished
  int64_t codes = 0;
  double seconds_per_image = 0;  ///< of late, from one finished image to the next; 0: unknown
};

/// Thrown by submit(): too many images wait already.
class QueueFull : public Error {
 public:
  explicit QueueFull(double wait_s)
      : Error("the queue is full; try again in {:.0f} s", wait_s), retry_after_s(wait_s) {}

  double retry_after_s;  ///< an estimate; at least 1
};

/// Generates the images of many requests on one thread. On a CPU, images join and leave the batch
/// of the decoder at any token, in an order that is fair to all clients (FairQueue), and each is,
/// bit for bit, what dalle-sample gives.
///
/// If an image cannot be completed, only its request fails. If memory runs out while codes are
/// computed, all requests with images in progress fail, and the others continue.
class GenerationEngine {
 public:
  /// @throws dalle::Error if a contrastive model cannot be read, or `rank_by` is not possible
  GenerationEngine(TrainedDalle dalle, const EngineOptions& options);
  ~GenerationEngine();  ///< cancels what is not finished
  GenerationEngine(const GenerationEngine&) = delete;
  GenerationEngine& operator=(const GenerationEngine&) = delete;

  const TrainedDalle& dalle() const { return dalle_; }
  bool has_reranker() const { return !reranker_name().empty(); }
  std::string reranker_name() const;  ///< see Reranker::name(); empty if there is none
  const std::filesystem::path& reranker_model() const { return options_.reranker; }

  /// Queues a request. Thread-safe.
  /// @return  its number, for cancel()
  /// @throws QueueFull
  /// @throws dalle::Error if the caption is invalid, best_of is asked for without a reranker, or a
  ///         number is out of its range, naming it
  uint64_t submit(GenerationRequest request, GenerationEvents events);

  /// Frees the batch slots of a request within one token; none of its events is called afterwards,
  /// except one that is being called. Does nothing if it is complete. Thread-safe.
  void cancel(uint64_t number);

  EngineStatus status() const;

 private:
  using JobPointer = std::shared_ptr<GenerationJob>;

  /// An image in progress.
  struct Slot {
    JobPointer job;       ///< null: the slot is free
    uint64_t number = 0;  ///< of the request
    int64_t image = 0;
    int64_t free_codes = 0;  ///< those that are not forced
    int64_t next_preview = 0;
  };
  struct FinishedImage {
    Slot slot;
    at::Tensor codes;
  };

  // On the engine's thread.
  void run();
  bool take_in();
  void start_images();
  void start_image(uint64_t number);
  void run_pass();
  void send_previews(int64_t id);
  void run_request();
  void finish_image(const Slot& slot, const at::Tensor& codes);
  void fail(uint64_t number, const std::string& message);
  void close(uint64_t number, std::atomic<int64_t>& counter);
  Slot release(int64_t id);
  void record_speed(int64_t codes, double seconds);

  const TrainedDalle dalle_;
  const EngineOptions options_;  ///< complete
  const std::unique_ptr<Reranker> reranker_;

  // Guarded by mutex_, which is never held while an event is called.
  mutable std::mutex mutex_;
  std::condition_variable wake_;         ///< of the engine's thread
  std::map<uint64_t, JobPointer> open_;  ///< requests that are not complete, by number
  uint64_t last_number_ = 0;             ///< of open_
  bool has_canceled_ = false;            ///< since the engine's thread looked
  bool is_stopping_ = false;

  // Written by the engine's thread, except that submit() adds to queued_.
  std::atomic<int64_t> queued_ = 0, active_ = 0, finished_ = 0, canceled_ = 0, failed_ = 0,
                       codes_ = 0;
  std::atomic<double> seconds_per_image_ = 0;

  // Used only by the engine's thread.
  std::map<uint64_t, JobPointer> jobs_;  ///< those of open_ that it has taken in
  uint64_t last_taken_in_ = 0;
  FairQueue queue_;
  std::optional<DecodeBatch> batch_;            ///< nothing: one request at a time
  std::vector<Slot> slots_;                     ///< by their number in the batch
  std::vector<FinishedImage> finished_images_;  ///< by this pass
  double recent_seconds_ = 0, recent_codes_ = 0;

  std::thread thread_;  ///< the last member: it begins when all others are ready
};

/// A model under the name by which requests ask for it: that of its run folder.
struct ServedModel {
  std::string id;
  int64_t created = 0;  ///< seconds since 1970
  std::unique_ptr<GenerationEngine> engine;
};

}  // namespace dalle
