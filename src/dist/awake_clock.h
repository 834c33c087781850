#pragma once

#include <chrono>
#include <mutex>

namespace dalle {

/// A steady clock that stands still while this process is stopped (SIGSTOP, Slurm's suspend), when
/// it neither does anything nor sees what other processes do.
///
/// The process is assumed to have been stopped if now() was not called for too long, so some thread
/// must call it regularly.
class AwakeClock {
 public:
  using Steady = std::chrono::steady_clock;

  /// @param longest_gap  between two calls of now() while the process runs
  explicit AwakeClock(Steady::duration longest_gap) : longest_gap_(longest_gap) {}

  Steady::time_point now();

 private:
  const Steady::duration longest_gap_;
  std::mutex mutex_;  ///< guards the members below
  Steady::time_point last_call_ = Steady::now();
  Steady::duration stopped_{};  ///< total so far
};

}  // namespace dalle
