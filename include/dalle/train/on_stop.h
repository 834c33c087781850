#pragma once

#include <functional>
#include <thread>

#include "dalle/dist/process_group.h"
#include "dalle/train/stop_signal.h"

namespace dalle {

/// Reacts to a stop that this or, as far as is known here, another rank was asked for, while other
/// threads do work that does not look out for it.
class OnStop {
 public:
  /// @param react  called once at most, on a thread of its own, and not after destruction
  OnStop(const ProcessGroup& group, const StopSignal& stop, std::function<void()> react);

 private:
  std::jthread thread_;  ///< its destructor ends it
};

/// Ends this process, whatever its other threads are doing, with the status 128 + the signal's
/// number. For preparation: it has nothing to save, and calls libraries and file systems that
/// cannot be interrupted. The other ranks get to know of the stop before.
[[noreturn]] void end_process(const ProcessGroup& group, const StopSignal& stop);

}  // namespace dalle
