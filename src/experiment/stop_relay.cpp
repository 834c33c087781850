#include "experiment/stop_relay.h"

#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>
#include <utility>

#include "core/log.h"
#include "core/status_line.h"
#include "dist/stop_condition.h"

namespace dalle {
namespace {

using namespace std::chrono_literals;

/// How long it takes at most to write a stop to the store, and for the others to read it there.
constexpr auto kPassedOnWithin = 3s;
constexpr auto kCheckEvery = 50ms;

}  // namespace

StopRelay::StopRelay(const ProcessGroup& group, const StopSignal& stop, std::function<void()> react)
    : alarm_(std::make_unique<Alarm>(
          kCheckEvery, [&group, &stop, react = std::move(react)]() -> std::optional<Alarm::Time> {
            if (!StopCondition(stop, group).requested()) return kCheckEvery;
            react();
            return std::nullopt;
          })) {}

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
      std::this_thread::sleep_for(kCheckEvery);
  }
  std::_Exit(128 + StopCondition(stop, group).signal());
}

}  // namespace dalle
