#include "dalle/train/on_stop.h"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "dalle/core/log.h"
#include "dalle/core/status_line.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

/// For the store to take a stop from this rank, and for the others to read it there.
constexpr auto kPassedOnWithin = 3s;

void wait_for_stop(const std::stop_token& destroyed, const std::function<bool()>& is_wanted,
                   const std::function<void()>& react) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  while (!destroyed.stop_requested()) {
    if (is_wanted()) return react();
    changed.wait_for(lock, destroyed, 50ms, [] { return false; });
  }
}

}  // namespace

OnStop::OnStop(const ProcessGroup& group, const StopSignal& stop, std::function<void()> react)
    : thread_([&group, &stop, react = std::move(react)](const std::stop_token& destroyed) {
        wait_for_stop(
            destroyed, [&] { return stop.requested() || group.stop_is_wanted(); }, react);
      }) {}

void end_process(const ProcessGroup& group, const StopSignal& stop) {
  show_status_line("");
  log_info(
      "stopped during preparation; there is nothing to save, run the same command to start over");
  if (group.world() > 1) {
    const auto until = std::chrono::steady_clock::now() + kPassedOnWithin;
    // The first rank keeps the store, in which the others read of it.
    while (std::chrono::steady_clock::now() < until &&
           (group.is_first() || !group.stop_is_wanted()))
      std::this_thread::sleep_for(50ms);
  }
  std::_Exit(128 + (stop.requested() ? stop.number() : SIGTERM));  // or another rank was asked
}

}  // namespace dalle
