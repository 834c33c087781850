#pragma once

#include <chrono>
#include <mutex>

namespace dalle {

/// A steady clock that stands still while this process is stopped (SIGSTOP, Slurm's suspend): it
/// does nothing then, and does not see what others do.
///
/// The process is taken for stopped where nobody has asked for the time for too long, so some
/// thread must ask again and again.
class AwakeClock {
 public:
  using Steady = std::chrono::steady_clock;

  /// @param longest_gap  between two questions, while the process runs
  explicit AwakeClock(Steady::duration longest_gap) : longest_gap_(longest_gap) {}

  Steady::time_point now();

 private:
  const Steady::duration longest_gap_;
  std::mutex mutex_;  ///< for what follows
  Steady::time_point last_asked_ = Steady::now();
  Steady::duration stopped_{};  ///< so far
};

}  // namespace dalle
