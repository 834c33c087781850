#include "core/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

#include "core/error.h"

namespace dalle {
namespace {

constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGUSR1, SIGHUP};

std::atomic<int> requested_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // required in a signal handler
std::array<struct sigaction, kStopSignals.size()> previous_actions;
bool installed = false;

void on_signal(int number) {
  int first = 0;
  if (requested_signal.compare_exchange_strong(first, number)) return;
  // A closing terminal sends SIGHUP both itself and through its shell: that is one request, not
  // two.
  if (number == SIGHUP) return;
  if (first != SIGHUP) ::_exit(128 + number);
  requested_signal = number;
}

}  // namespace

StopSignal::StopSignal() {
  DALLE_CHECK(!installed);
  installed = true;
  requested_signal = 0;
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
