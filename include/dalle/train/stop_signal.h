#pragma once

#include <functional>

namespace dalle {

/// Thrown where a run that was asked to stop breaks something off that it can do again.
struct StopRequested {};

/// To be called now and then in what takes long; throws StopRequested.
using CheckStop = std::function<void()>;

/// Turns the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP into a request that the trainer honors
/// between two micro-batches; the second one ends the process at once, with status 128 + its number
/// and without cleaning up. SIGHUP never counts as one of the two, since a terminal that closes
/// sends several, and stays ignored where nohup had it ignored.
///
/// Handlers are process-wide, so at most one object lives at a time; destruction puts the former
/// ones back.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const { return number() != 0; }

  /// The signal that asked to stop; 0: none yet.
  int number() const;
};

}  // namespace dalle
