#include "core/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <limits>

#include "core/error.h"

namespace dalle {
namespace {

constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGUSR1, SIGHUP};

constexpr int64_t kOneRequestMs = 1000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

std::atomic<int> requested_signal = 0;
std::atomic<int64_t> requested_at_ms = kNever;
static_assert(std::atomic<int>::is_always_lock_free &&  // required in a signal handler
              std::atomic<int64_t>::is_always_lock_free);
std::array<struct sigaction, kStopSignals.size()> previous_actions;
bool installed = false;

/// std::chrono's clocks are not promised to be safe in a signal handler.
int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{1000} * now.tv_sec + now.tv_nsec / 1'000'000;
}

void on_signal(int number) {
  int first = 0;
  if (requested_signal.compare_exchange_strong(first, number)) {
    requested_at_ms = now_ms();
    return;
  }
  // A closing terminal sends SIGHUP both itself and through its shell: that is one request, not
  // two.
  if (number == SIGHUP) return;
  if (first != SIGHUP) {
    if (now_ms() - requested_at_ms >= kOneRequestMs) ::_exit(128 + number);
    return;
  }
  requested_at_ms = now_ms();  // first: a signal in another thread compares with it
  requested_signal = number;
}

}  // namespace

StopSignal::StopSignal() {
  DALLE_CHECK(!installed);
  installed = true;
  requested_signal = 0;
  requested_at_ms = kNever;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    ::sigaction(kStopSignals[i], nullptr, &previous_actions[i]);
    if (kStopSignals[i] == SIGHUP && previous_actions[i].sa_handler == SIG_IGN) continue;  // nohup
    ::sigaction(kStopSignals[i], &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    ::sigaction(kStopSignals[i], &previous_actions[i], nullptr);
  installed = false;
}

int StopSignal::number() const {
  return requested_signal;
}

}  // namespace dalle
