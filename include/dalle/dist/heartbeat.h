#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <c10/util/intrusive_ptr.h>

#include "dalle/dist/awake_clock.h"

namespace c10d {
class Store;
}

namespace dalle {

/// What a rank is doing. Loading and computing are steps of a training and must not last; the
/// others take what they take.
enum class Phase { kPreparing, kLoading, kComputing, kEvaluating, kDrawing, kSaving };

/// Tells the other ranks that this one lives, and finds out which one does not.
///
/// A thread writes a few words into the group's store every second or so, and reads those of the
/// first rank and of its neighbour. A rank whose words have not changed for the timeout, one that
/// has been loading or computing for longer than that, one that has announced its failure, and a
/// store that does not answer are reported: to `on_lost`, on that thread, once. All ranks make the
/// report that is in the store first; the first rank keeps the store, and waits with its own until
/// the others have read it. Time in which this process is stopped does not count.
class Heartbeat {
 public:
  /// Called with one line that names the rank, its step and its phase.
  using OnLost = std::function<void(const std::string& report)>;

  /// @param store  not used by others at the same time; a clone() of the group's
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
            std::chrono::milliseconds timeout, OnLost on_lost);

  /// Says goodbye: nobody will miss this rank. The first one then waits some seconds for the
  /// goodbyes of the others, but not if it fails and has told nobody: the store's end tells them.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void enter(Phase phase, int64_t step);

  /// While this rank waits for others, it is not the one that is stuck.
  void wait_begins(const char* collective);
  void wait_ends();

  /// From now on tells the others once `is_asked` says that this rank was asked to stop; an empty
  /// function ends that. Called on another thread.
  void watch_for_stop(std::function<bool()> is_asked);

  /// Whether any rank was asked to stop, as far as is known here: some seconds later.
  bool stop_is_wanted() const { return stop_is_wanted_; }

  /// After a collective has failed: the rank that is to blame, as one line; empty if every rank
  /// still gives signs of life. Takes some seconds, and tells the others.
  std::string find_lost();

  /// Tells all ranks that this one cannot go on; their reports will say why.
  void announce_failure(const std::string& message);

  /// While a checkpoint is being written beside the training, a rank that hears of a loss ends only
  /// after that, or after patience().
  void set_saving(bool saving);
  std::chrono::steady_clock::duration patience() const { return patience_; }

 private:
  using Clock = std::chrono::steady_clock;
  class StoreUse;

  struct Seen {
    std::string words;
    Clock::time_point since;
  };

  void run();
  void guard();
  bool beat();
  bool ends_by_itself();
  void pass_on_stop();
  void report_lost(const std::string& report);
  std::string tell(const std::string& report);
  void await_goodbyes(Clock::duration patience);
  bool has_left(int64_t rank);
  std::string lost_rank();
  std::string find_silent(Clock::duration limit);
  std::string report_if_silent(int64_t rank, Clock::duration limit);
  const Seen& look_at(int64_t rank);
  std::string words() const;
  std::string store_is_gone() const;
  std::string read(const std::string& key);

  c10::intrusive_ptr<c10d::Store> store_;
  const int64_t rank_;
  const int64_t world_;
  const Clock::duration timeout_;
  const Clock::duration period_;
  const Clock::duration grace_;  ///< for a living rank to be heard of, and to hear of a loss
  const Clock::duration patience_;
  AwakeClock clock_;  ///< guard() asks it in every period
  OnLost on_lost_;

  mutable std::mutex mutex_;  ///< for what follows
  std::condition_variable changed_;
  bool stopping_ = false;
  bool store_is_done_with_ = false;
  bool reported_ = false;
  bool failing_ = false;  ///< another thread has found a loss or failed, and ends the process
  bool saving_ = false;
  Clock::time_point known_since_ = Clock::time_point::max();  ///< of a loss
  int64_t beats_ = 0;
  Clock::time_point store_use_began_ = Clock::time_point::max();  ///< of the one under way
  int64_t step_ = 0;
  Phase phase_ = Phase::kPreparing;
  Clock::time_point phase_began_;
  const char* collective_ = nullptr;  ///< that this rank waits in
  std::function<bool()> is_asked_to_stop_;
  std::string first_words_;  ///< of the first rank, with which the store may be gone
  std::string told_;         ///< the report that all ranks make, once it is in the store

  std::mutex store_mutex_;  ///< for the store and `seen_`
  std::map<int64_t, Seen> seen_;
  std::atomic<bool> stop_is_wanted_ = false;
  std::thread thread_;
  std::thread guard_;  ///< notices when the other one waits for the store in vain
};

}  // namespace dalle
