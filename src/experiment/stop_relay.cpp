#include "experiment/stop_relay.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "core/log.h"
#include "core/status_line.h"
#include "dist/stop_condition.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

/// How long it takes at most to write a stop to the store, and for the others to read it there.
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

StopRelay::StopRelay(const ProcessGroup& group, const StopSignal& stop, std::function<void()> react)
    : thread_([&group, &stop, react = std::move(react)](const std::stop_token& destroyed) {
        wait_for_stop(
            destroyed, [&] { return StopCondition(stop, group).requested(); }, react);
      }) {}

StopAnnouncer::StopAnnouncer(ProcessGroup& group, const StopSignal& stop) : group_(group) {
  group_.watch_for_stop([&stop] { return stop.requested(); });
}

StopAnnouncer::~StopAnnouncer() {
  group_.watch_for_stop({});
}

void end_process(const ProcessGroup& group, const StopSignal& stop) {
  show_status_line("");
  log_info(
      "stopped during preparation, with nothing to save; run the same command, without --restart, "
      "to continue");
  if (group.world_size() > 1) {
    const auto until = std::chrono::steady_clock::now() + kPassedOnWithin;
    // Rank 0 hosts the store, from which the others read it.
    while (std::chrono::steady_clock::now() < until &&
           (group.is_rank_zero() || !group.stop_requested()))
      std::this_thread::sleep_for(50ms);
  }
  std::_Exit(128 + StopCondition(stop, group).signal());
}

}  // namespace dalle
