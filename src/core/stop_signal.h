#pragma once

#include <functional>

namespace dalle {

/// Thrown to abandon work that can be repeated, after a run was asked to stop.
struct StopRequested {};

/// Long work calls this regularly; it throws StopRequested after a request to stop.
using CheckStop = std::function<void()>;

/// Turns the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP into a request to stop, which the trainer
/// honors between two micro-batches. A second signal, at least one second later, ends the process
/// immediately, with status 128 + its number and without cleanup. Signals within a second are one
/// request: timeout(1), pkill, systemd and launchers deliver it to a process both directly and
/// through its group or parent. SIGHUP never counts towards the two, because a closing terminal
/// sends several, and stays ignored if the process was started by nohup.
///
/// Signal handlers are global, so only one object may exist at a time. Its destructor restores the
/// previous handlers.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const { return number() != 0; }

  /// The signal that requested the stop; 0 if there was none.
  int number() const;
};

}  // namespace dalle
