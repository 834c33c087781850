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

/// Why a rank ends although it could go on by itself.
struct LossReport {
  std::string text;
  bool is_repeated = false;  ///< rank 0 says it, and so has the rank that failed, if one has
};

/// Tells the other ranks that this one lives, and finds out which one does not.
///
/// A thread writes a few words into the group's store every second or so, and reads those of the
/// first rank and of its neighbour. A rank whose words have not changed for the timeout, one that
/// has been loading or computing for longer than that, one that has announced its failure, and a
/// store that does not answer are reported: to `on_lost`, on that thread, once. So are all ranks
/// together if none has left its collective, or its loading or computing, for the timeout: the
/// network that carries tensors is stalled, or the ranks call different collectives. All ranks make
/// the report that is in the store first; rank 0 keeps the store, and waits with its own until the
/// others have read it. Time in which this process is stopped does not count.
///
/// What may take its time (an evaluation, a save) is no loss. Rank 0 logs a warning after each
/// timeout for which it has done such work, or has waited for another rank that does.
class Heartbeat {
 public:
  /// Called with one line that names the rank, its step and its phase.
  using OnLost = std::function<void(const LossReport& loss)>;

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

  /// Tells all ranks that this one cannot go on; their reports will say why. Ranks that fail in the
  /// same way leave it to one of them to say so, and if possible to rank 0: the others wait for it
  /// for up to a second.
  /// @return  false if another rank says the same, or has failed first and caused this failure
  bool announce_failure(const std::string& message);

  /// While a checkpoint is being written beside the training, a rank that hears of a loss ends only
  /// after that, or after patience().
  void set_saving(bool saving);
  std::chrono::steady_clock::duration patience() const { return patience_; }

 private:
  using Clock = std::chrono::steady_clock;
  class StoreUse;

  /// How a rank is occupied, since when, and where it is.
  struct Sign {
    char occupation = 0;
    Clock::duration age{};
    std::string place;
  };

  struct Seen {
    std::string words;
    Clock::time_point since;
  };

  void note_progress();
  void run();
  void guard();
  bool beat();
  bool ends_by_itself();
  void pass_on_stop();
  void report_lost(const std::string& report);
  void log_notice(std::unique_lock<std::mutex>& lock);
  std::string tell(const std::string& report);
  void await_goodbyes(Clock::duration patience);
  bool has_left(int64_t rank);
  std::string lost_rank();
  std::string look_for_stall(const Sign& own);
  bool a_loss_is_known();
  void note_wait(const Sign& own, const std::string& notice);
  std::string find_silent(Clock::duration limit);
  std::string report_if_silent(int64_t rank, Clock::duration limit);
  const Seen& look_at(int64_t rank);
  bool is_preparing() const;
  Sign own_sign() const;
  static Sign sign_in(const std::string& words);
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
  mutable AwakeClock clock_;  ///< guard() asks it in every period
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
  Clock::time_point progressed_;      ///< into another phase, or into or out of a collective
  const char* collective_ = nullptr;  ///< that this rank waits in
  std::string notice_;                ///< to be logged
  int64_t noted_timeouts_ = 0;        ///< of the work or wait under way, that were logged
  std::function<bool()> is_asked_to_stop_;
  std::string first_words_;  ///< of the first rank, with which the store may be gone
  std::string told_;         ///< the report that all ranks make, once it is in the store

  std::mutex store_mutex_;  ///< for the store and `seen_`
  std::map<int64_t, Seen> seen_;
  std::atomic<bool> stop_is_wanted_ = false;
  std::thread thread_;
  /// Notices when the other one waits for the store in vain, and logs: on a file system that does
  /// not answer, a log may block.
  std::thread guard_;
};

}  // namespace dalle
