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
/// store that does not answer are reported: to `on_lost`, on that thread, once.
class Heartbeat {
 public:
  /// Called with one line that names the rank, its step and its phase.
  using OnLost = std::function<void(const std::string& report)>;

  /// @param store  not used by others at the same time; a clone() of the group's
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
            std::chrono::milliseconds timeout, OnLost on_lost);

  /// Says goodbye: nobody will miss this rank.
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
  /// still gives signs of life. Takes some seconds.
  std::string find_lost();

  /// Tells all ranks that this one cannot go on; their reports will say why.
  void announce_failure(const std::string& message);

 private:
  using Clock = std::chrono::steady_clock;

  struct Seen {
    std::string words;
    Clock::time_point since;
  };

  void run();
  void guard();
  bool beat();
  void pass_on_stop();
  void report_lost(const std::string& report);
  std::string lost_rank();
  std::string report_if_silent(int64_t rank, Clock::duration limit);
  std::string words() const;
  std::string store_is_gone() const;
  std::string read(const std::string& key);

  c10::intrusive_ptr<c10d::Store> store_;
  const int64_t rank_;
  const int64_t world_;
  const Clock::duration timeout_;
  const Clock::duration period_;
  OnLost on_lost_;

  mutable std::mutex mutex_;  ///< for what follows
  std::condition_variable changed_;
  bool stopping_ = false;
  bool reported_ = false;
  int64_t beats_ = 0;
  Clock::time_point beat_began_ = Clock::time_point::max();  ///< of the one under way
  int64_t step_ = 0;
  Phase phase_ = Phase::kPreparing;
  Clock::time_point phase_began_;
  const char* collective_ = nullptr;  ///< that this rank waits in
  std::function<bool()> is_asked_to_stop_;
  std::string first_words_;  ///< of the first rank, with which the store may be gone

  std::mutex store_mutex_;  ///< for the store and `seen_`
  std::map<int64_t, Seen> seen_;
  std::atomic<bool> stop_is_wanted_ = false;
  std::thread thread_;
  std::thread guard_;  ///< notices when the other one waits for the store in vain
};

}  // namespace dalle
