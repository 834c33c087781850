#pragma once

#include <chrono>

namespace dalle {

inline double in_seconds(std::chrono::duration<double> duration) {
  return duration.count();
}

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return in_seconds(std::chrono::steady_clock::now() - begin);
}

/// Wall-clock time since 1970-01-01 00:00 UTC.
inline double seconds_since_epoch() {
  return in_seconds(std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace dalle
