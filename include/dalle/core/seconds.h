#pragma once

#include <chrono>

namespace dalle {

inline double in_seconds(std::chrono::duration<double> duration) {
  return duration.count();
}

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return in_seconds(std::chrono::steady_clock::now() - begin);
}

}  // namespace dalle
