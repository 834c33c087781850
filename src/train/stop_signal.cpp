#include "dalle/train/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

#include "dalle/core/error.h"

namespace dalle {
namespace {

constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGUSR1, SIGHUP};

std::atomic<int> requested_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // or a handler could not store into it
std::array<struct sigaction, kStopSignals.size()> former_actions;
bool installed = false;

void on_signal(int number) {
  int first = 0;
  if (requested_signal.compare_exchange_strong(first, number)) return;
  // A terminal that closes sends SIGHUP itself and through its shell: nobody has asked twice.
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
    ::sigaction(kStopSignals[i], nullptr, &former_actions[i]);
    if (kStopSignals[i] == SIGHUP && former_actions[i].sa_handler == SIG_IGN) continue;  // nohup
    ::sigaction(kStopSignals[i], &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    ::sigaction(kStopSignals[i], &former_actions[i], nullptr);
  installed = false;
}

int StopSignal::number() const {
  return requested_signal;
}

}  // namespace dalle
