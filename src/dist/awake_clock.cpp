#include "dist/awake_clock.h"

#include <utility>

namespace dalle {

AwakeClock::Steady::time_point AwakeClock::now() {
  const std::lock_guard lock(mutex_);
  const auto time = Steady::now();
  const auto gap = time - std::exchange(last_call_, time);
  if (gap > longest_gap_) stopped_ += gap;
  return time - stopped_;
}

}  // namespace dalle
