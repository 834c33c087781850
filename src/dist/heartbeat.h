#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include <c10/util/intrusive_ptr.h>

#include "dist/awake_clock.h"
#include "dist/heartbeat_status.h"

namespace c10d {
class Store;
}

namespace dalle {

/// Why a rank exits although nothing is wrong with the rank itself.
struct LossReport {
  std::string text;
  bool is_repeated = false;  ///< rank 0 reports it too, and so does the rank that failed, if any
};

/// Shows the other ranks that this one is alive, and detects which one is not.
///
/// A thread writes the status of this rank to the group's store about once per second, and reads
/// the statuses of rank 0 and of the next rank. It reports to `on_lost`, once and on that thread: a
/// rank whose status has not changed for the timeout; one that has been loading or computing for
/// longer than that; one that has announced its failure; and a store that does not respond. It also
/// reports that no rank has left its collective, its loading or its computing for the timeout: the
/// network that carries the tensors has stalled, or the ranks call different collectives. All ranks
/// make the report that reaches the store first; rank 0 hosts the store, and makes its own only
/// after the others have read it. Time during which this process is stopped does not count.
///
/// Work without a time limit (an evaluation, a save) is not a loss. Rank 0 logs a warning after
/// each timeout that it spends on such work, or on waiting for another rank that does.
class Heartbeat {
 public:
  /// Called with one line that names the rank, its step and its phase.
  using OnLost = std::function<void(const LossReport& loss)>;

  /// @param store  not used by others at the same time; a clone() of the group's
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world_size,
            std::chrono::milliseconds timeout, OnLost on_lost);

  /// Announces that this rank has left, so that it is not mistaken for lost. Rank 0 then waits up
  /// to a few seconds for the others to leave, unless it fails without having announced why: then
  /// the others notice that the store is gone.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void set_phase(Phase phase, int64_t step);

  /// While this rank waits for others, it is not the one that is stuck.
  void wait_begins(const char* collective);
  void wait_ends();

  /// From now on informs the others once `is_asked` returns true: this rank was asked to stop. An
  /// empty function ends that. `is_asked` is called on another thread.
  void watch_for_stop(std::function<bool()> is_asked);

  /// Whether any rank was asked to stop; known here within a few seconds.
  bool stop_requested() const { return stop_requested_; }

  /// After a collective has failed: names the rank to blame, in one line; empty if every rank still
  /// sends heartbeats. Takes a few seconds, and informs the others.
  std::string find_lost_rank();

  /// Informs all ranks that this one has failed; their reports will say why. If ranks fail in the
  /// same way, one of them reports it, rank 0 if possible: the others wait for it for up to a
  /// second.
  /// @param message  why; "rank 2: ..." if this rank fails only because rank 2 does
  /// @return  false if another rank reports the same, or failed first and caused this failure
  bool announce_failure(const std::string& message);

  /// While a checkpoint is being written in the background, a rank that learns of a loss exits only
  /// after the write, or after save_grace().
  void set_saving(bool saving);
  std::chrono::steady_clock::duration save_grace() const { return save_grace_; }

 private:
  using Clock = std::chrono::steady_clock;
  class StoreUse;

  /// A rank's status as last read, and when it changed.
  struct Seen {
    std::string status;
    Clock::time_point since;
  };

  void note_progress();
  void run();
  void guard();
  bool beat();
  bool defers_exit();
  void relay_stop();
  void report_lost(const std::string& report);
  void log_notice(std::unique_lock<std::mutex>& lock);
  std::string publish(const std::string& report);
  void await_departures(Clock::duration limit);
  bool has_left(int64_t rank);
  bool is_loss_known();
  bool is_preparing() const;
  RankStatus own_status() const;
  std::string store_is_gone() const;
  std::string read(const std::string& key);

  // In heartbeat_diagnosis.cpp; the caller holds a StoreUse.
  std::string diagnose();
  std::string diagnose_stall(const RankStatus& own);
  void note_wait(const RankStatus& own, const std::string& notice);
  std::string find_silent(Clock::duration limit);
  std::string report_if_silent(int64_t rank, Clock::duration limit);
  const Seen& poll(int64_t rank);

  /// Published in place of a status by a rank that has left.
  static constexpr std::string_view kLeft = "left";
  static constexpr std::string_view kStalled = "no rank has made progress";
  static std::string status_key(int64_t rank);

  c10::intrusive_ptr<c10d::Store> store_;
  const int64_t rank_;
  const int64_t world_size_;
  const Clock::duration timeout_;
  const Clock::duration period_;
  const Clock::duration grace_;  ///< in which a live rank sends a heartbeat and learns of a loss
  const Clock::duration save_grace_;
  mutable AwakeClock clock_;  ///< guard() reads it in every period
  OnLost on_lost_;

  mutable std::mutex mutex_;  ///< guards the members below
  std::condition_variable changed_;
  bool stopping_ = false;
  bool store_is_done_with_ = false;
  bool reported_ = false;
  bool failing_ = false;  ///< another thread has found a loss or failed, and ends the process
  bool saving_ = false;
  Clock::time_point loss_known_since_ = Clock::time_point::max();
  Clock::time_point store_use_began_ = Clock::time_point::max();  ///< of the current use
  int64_t step_ = 0;
  Phase phase_ = Phase::kPreparing;
  Clock::time_point progressed_;      ///< when the phase or the collective last changed
  const char* collective_ = nullptr;  ///< that this rank waits in
  std::string notice_;                ///< to be logged
  int64_t noted_timeouts_ = 0;        ///< of the current work or wait that were logged
  std::function<bool()> is_asked_to_stop_;
  std::string rank_zero_status_;  ///< as last read, in case the store goes with rank 0
  std::string published_report_;  ///< the report that all ranks make, once it is in the store

  std::mutex store_mutex_;  ///< guards the store, `seen_` and `beats_`
  std::map<int64_t, Seen> seen_;
  int64_t beats_ = 0;
  std::atomic<bool> stop_requested_ = false;
  std::thread thread_;
  /// Notices when the other thread hangs in the store, and logs: on a file system that does not
  /// respond, a log may block.
  std::thread guard_;
};

}  // namespace dalle
