#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include "dist/distributed_config.h"
#include "dist/heartbeat.h"
#include "dist/rank_info.h"
#include "dist/rank_lost.h"
#include "dist/store_mailbox.h"

namespace c10d {
class Backend;
class Store;
class Work;
}  // namespace c10d

namespace dalle {

class ProcessGroup;

struct ProcessGroupOptions {
  CommunicationBackend backend = CommunicationBackend::kAuto;
  /// How long to wait for the other ranks to connect, and later for a heartbeat from any of them.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// Called, on a separate thread, when another rank is lost while this one may be waiting for it.
  /// By default the process exits at once with kExitRankLost and writes the line to standard error
  /// and to the log, or only to the log if other ranks report the same.
  Heartbeat::OnLost on_lost = end_process;

  static void end_process(const LossReport& loss);
};

/// A collective in progress.
class [[nodiscard]] Work {
 public:
  using Clock = std::chrono::steady_clock;

  Work();
  ~Work();
  Work(Work&&) noexcept;
  Work& operator=(Work&&) noexcept;

  /// Returns once the result is available; on a GPU, only to work that is queued after this call,
  /// unless `on_host` makes this thread wait too.
  /// @throws RankLost naming this rank and the collective
  /// @throws c10::Error if this rank's own GPU fails
  void wait(bool on_host = false);

  /// When it began and ended. The end is known only for all-reduces on CPUs; until it is known, it
  /// equals the beginning.
  Clock::time_point begin() const { return begin_; }
  Clock::time_point end() const { return *end_; }

 private:
  friend class ProcessGroup;

  ProcessGroup* group_ = nullptr;
  const char* name_ = "";
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;  ///< kept alive until the end
  Clock::time_point begin_;
  std::shared_ptr<std::atomic<Clock::time_point>> end_;
};

/// The ranks that train together. Unless documented otherwise, functions are collectives: all ranks
/// call the same ones in the same order. With a world size of 1 they do nothing.
///
/// Tensors are contiguous and on the device that the group was created for. A collective that fails
/// because a rank has died throws a dalle::Error that names this rank, the collective, and the rank
/// that is gone with its last step. Ranks that are stuck are found by their heartbeats: see
/// on_lost.
class ProcessGroup {
 public:
  /// A group of one rank.
  ProcessGroup();

  /// Connects to the other ranks, and logs from time to time which ones it is waiting for. If the
  /// name of rank 0's host does not resolve yet, it is tried again. Gloo connects machines over the
  /// network that reaches rank 0, unless GLOO_SOCKET_IFNAME names others. A single rank uses a
  /// backend only if `info` names a host, as tests/device/ does to test the backend.
  /// @throws dalle::Error naming the ranks that did not connect within the timeout
  ProcessGroup(const RankInfo& info, c10::Device device, const ProcessGroupOptions& options = {});

  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const { return rank_; }
  int64_t world_size() const { return world_size_; }
  bool is_rank_zero() const { return rank_ == 0; }

  /// Sets what this rank is about to do, for reports of the other ranks. Not a collective; nor are
  /// the next functions, up to announce_failure().
  void set_phase(Phase phase, int64_t step);

  /// From now on informs the other ranks once `is_asked` returns true (this rank was asked to
  /// stop), even while it waits for them; an empty function ends that.
  void watch_for_stop(std::function<bool()> is_asked);

  /// Whether some rank was asked to stop; known here within a few seconds. Ranks may see it at
  /// different steps and must still agree.
  bool stop_requested() const;

  /// Seconds that this rank has spent waiting for collectives so far.
  double waited_s() const { return waited_s_; }

  /// For threads other than the one that calls the collectives; null for a world size of 1.
  std::unique_ptr<StoreMailbox> store_mailbox() const;

  /// Marks that a checkpoint is being written in the background: see Heartbeat.
  void set_saving(bool saving);

  /// How much longer a checkpoint may take to write once a rank is lost.
  std::chrono::steady_clock::duration save_grace() const;

  /// Informs the other ranks why this one failed. Returns whether this rank must report the failure
  /// on the console: see Heartbeat.
  bool announce_failure(const std::string& message);

  /// Sums a tensor over the ranks, in place. All ranks get the same bits.
  void all_reduce(const at::Tensor& tensor);

  /// Overwrites a tensor with rank 0's.
  void broadcast(const at::Tensor& tensor);

  /// The text of rank 0, on every rank.
  std::string broadcast(const std::string& text);

  /// The texts of all ranks, by rank, on every rank. Needs little device memory.
  std::vector<std::string> all_gather_strings(const std::string& text);

  /// all_reduce() that runs while the caller does other work.
  Work all_reduce_async(const at::Tensor& tensor);

  /// Sums `full` [world_size * n] over the ranks; rank r gets elements [r n, (r + 1) n) of the sum
  /// in `part` [n]. The content of `full` is undefined afterwards.
  Work reduce_scatter_async(const at::Tensor& part, const at::Tensor& full);

  /// Concatenates the parts [n] of all ranks into `full` [world_size * n]. `part` may be this
  /// rank's slice of `full`.
  void all_gather(const at::Tensor& full, const at::Tensor& part);

  /// Sends elements [r n, (r + 1) n) of `sent` [world_size * n] to rank r; `received`
  /// [world_size * n] gets what each rank sent to this one, by rank.
  void all_to_all(const at::Tensor& received, const at::Tensor& sent);

  /// Whether `own` is true on any rank; all get the same answer.
  bool any(bool own);

  /// Returns once every rank has called it.
  void barrier();

 private:
  using Begin = std::function<c10::intrusive_ptr<c10d::Work>(c10d::Backend&)>;

  RankLost failure(const char* name, const std::string& cause);
  Work begin(const char* name, std::vector<at::Tensor> tensors, const Begin& begin);
  void run(const char* name, std::vector<at::Tensor> tensors, const Begin& begin);
  friend class Work;

  int64_t rank_ = 0;
  int64_t world_size_ = 1;
  double waited_s_ = 0;
  c10::Device device_ = c10::kCPU;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::unique_ptr<Heartbeat> heartbeat_;
};

}  // namespace dalle
