#pragma once

#include "core/stop_signal.h"
#include "dist/process_group.h"

namespace dalle {

/// Whether training should stop: this rank was asked to, or, as far as is known here, another one.
/// Ranks may see it at different times; what all of them must do together needs agree_any().
class StopCondition {
 public:
  /// Both arguments must outlive it.
  StopCondition(const StopSignal& signal, const ProcessGroup& group)
      : signal_(signal), group_(group) {}

  bool requested() const { return signal_.requested() || group_.stop_requested(); }

 private:
  const StopSignal& signal_;
  const ProcessGroup& group_;
};

}  // namespace dalle
