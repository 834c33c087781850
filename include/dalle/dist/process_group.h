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

#include "dalle/core/error.h"
#include "dalle/dist/distributed_config.h"
#include "dalle/dist/heartbeat.h"
#include "dalle/dist/note_board.h"
#include "dalle/dist/rank_info.h"

namespace c10d {
class Backend;
class Store;
class Work;
}  // namespace c10d

namespace dalle {

class ProcessGroup;

struct ProcessGroupOptions {
  CommunicationBackend backend = CommunicationBackend::kAuto;
  /// For meeting the others, and for one of them to give no sign of life.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// Called, on a thread of its own, when another rank is lost while this one may be waiting for
  /// it. By default the process ends at once with kExitRankLost, its line on standard error and in
  /// the log; or in the log alone, if other ranks say the same.
  Heartbeat::OnLost on_lost = end_process;

  static void end_process(const LossReport& loss);
};

/// A collective failed since another rank is gone or stuck.
class RankLost : public Error {
  using Error::Error;
};

/// Exit status of a rank that ends because another one is lost.
inline constexpr int kExitRankLost = 3;

/// A collective under way.
class [[nodiscard]] PendingCollective {
 public:
  using Clock = std::chrono::steady_clock;

  PendingCollective();
  ~PendingCollective();
  PendingCollective(PendingCollective&&) noexcept;
  PendingCollective& operator=(PendingCollective&&) noexcept;

  /// Returns once the result is there; on a GPU: for what is queued behind this call, or, if
  /// `on_host`, for this thread too.
  /// @throws RankLost naming this rank and the collective
  /// @throws c10::Error if this rank's own GPU fails
  void wait(bool on_host = false);

  /// When it began, and when it ended; the end is known of sums on CPUs alone, and equals the
  /// beginning until it is.
  Clock::time_point begin() const { return begin_; }
  Clock::time_point end() const { return *end_; }

 private:
  friend class ProcessGroup;

  ProcessGroup* group_ = nullptr;
  const char* name_ = "";
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;  ///< that must live until the end
  Clock::time_point begin_;
  std::shared_ptr<std::atomic<Clock::time_point>> end_;
};

/// The ranks that train together. Functions that say nothing else are collectives: all ranks call
/// the same ones in the same order. A world of one does nothing in each of them.
///
/// Tensors are contiguous and lie on the device that the group was made for. A collective that
/// fails since a rank has died is a dalle::Error that names this rank, the collective, and the rank
/// that is gone with its last step. Ranks that are stuck are found by their heartbeats: see
/// on_lost.
class ProcessGroup {
 public:
  /// A world of one.
  ProcessGroup();

  /// Meets the other ranks, and logs whom it waits for, after some seconds and now and then. A name
  /// of rank 0's host that does not resolve yet is tried until the timeout. Gloo connects ranks of
  /// several machines over the network that reaches rank 0, unless GLOO_SOCKET_IFNAME names others.
  /// A world of one needs none of that, and does without unless `info` names a host: then its
  /// collectives go through a backend, as a check of that does.
  /// @throws dalle::Error naming those that do not come within the timeout
  ProcessGroup(const RankInfo& info, c10::Device device, const ProcessGroupOptions& options = {});

  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const { return rank_; }
  int64_t world() const { return world_; }
  bool is_first() const { return rank_ == 0; }

  /// What this rank is about to do, for the reports of the others.
  void enter(Phase phase, int64_t step);

  /// Lets the other ranks know once `is_asked` says that this one was asked to stop, even while it
  /// waits for them; an empty function ends that.
  void watch_for_stop(std::function<bool()> is_asked);

  /// Whether another rank was asked to stop, as far as is known here: some seconds later. No
  /// collective: ranks must still agree.
  bool stop_is_wanted() const;

  /// Seconds in which this rank has waited for collectives so far.
  double waited_s() const { return waited_s_; }

  /// For threads beside the one that calls the collectives; null for a world of one.
  std::unique_ptr<NoteBoard> note_board() const;

  /// While a checkpoint is being written beside the training: see Heartbeat.
  void set_saving(bool saving);

  /// How long what is being saved may take once a rank is lost.
  std::chrono::steady_clock::duration patience() const;

  /// Tells the other ranks why this one cannot go on. Returns whether this one must say so: see
  /// Heartbeat.
  bool announce_failure(const std::string& message);

  /// Adds up a tensor over the ranks, in place. All ranks get the same bits.
  void sum(const at::Tensor& tensor);

  /// Overwrites a tensor with that of rank 0, in place.
  void broadcast(const at::Tensor& tensor);

  /// The text of rank 0, on every rank.
  std::string broadcast(const std::string& text);

  /// The texts of all ranks, by rank, on every rank.
  std::vector<std::string> gather(const std::string& text);

  /// sum() that goes on while the caller does other work.
  PendingCollective begin_sum(const at::Tensor& tensor);

  /// Adds up `whole` [world * n] over the ranks; rank r gets elements [r n, (r + 1) n) of the sum
  /// in `part` [n]. What `whole` holds afterwards is not defined.
  PendingCollective begin_reduce_scatter(const at::Tensor& part, const at::Tensor& whole);

  /// Puts the parts [n] of all ranks one behind the other into `whole` [world * n]. `part` may be
  /// this rank's place in it.
  void all_gather(const at::Tensor& whole, const at::Tensor& part);

  /// Sends elements [r n, (r + 1) n) of `sent` [world * n] to rank r; `received` [world * n] holds
  /// what the ranks sent to this one, by rank.
  void all_to_all(const at::Tensor& received, const at::Tensor& sent);

  /// Returns once every rank is here.
  void barrier();

 private:
  using Begin = std::function<c10::intrusive_ptr<c10d::Work>(c10d::Backend&)>;

  RankLost failure(const char* name, const std::string& cause);
  PendingCollective begin(const char* name, std::vector<at::Tensor> tensors, const Begin& begin);
  void run(const char* name, std::vector<at::Tensor> tensors, const Begin& begin);
  friend class PendingCollective;

  int64_t rank_ = 0;
  int64_t world_ = 1;
  double waited_s_ = 0;
  c10::Device device_ = c10::kCPU;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::unique_ptr<Heartbeat> heartbeat_;
};

}  // namespace dalle
