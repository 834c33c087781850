#include "dalle/train/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "dalle/core/error.h"

namespace dalle {
namespace {

constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGUSR1};

volatile std::sig_atomic_t requested_signal = 0;
std::array<struct sigaction, kStopSignals.size()> former_actions;
bool installed = false;

void on_signal(int number) {
  if (requested_signal != 0) ::_exit(128 + number);
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
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    ::sigaction(kStopSignals[i], &action, &former_actions[i]);
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
