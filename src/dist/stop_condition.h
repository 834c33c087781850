#pragma once

#include <csignal>

#include "core/stop_signal.h"
#include "dist/process_group.h"

namespace dalle {

/// Whether to stop: this rank was asked to or, as far as it knows, another one was. Ranks may see
/// it at different times; what all of them must do together needs ProcessGroup::any().
class StopCondition {
 public:
  /// Both arguments must outlive it.
  StopCondition(const StopSignal& signal, const ProcessGroup& group)
      : signal_(signal), group_(group) {}

  bool requested() const { return signal_.requested() || group_.stop_requested(); }

  /// A function that throws StopRequested once a stop is requested. This object must outlive it.
  CheckStop check_stop() const {
    return [this] {
      if (requested()) throw StopRequested();
    };
  }

  /// The signal that asked this rank to stop; SIGTERM if another rank was asked.
  int signal() const { return signal_.requested() ? signal_.number() : SIGTERM; }

 private:
  const StopSignal& signal_;
  const ProcessGroup& group_;
};

}  // namespace dalle
