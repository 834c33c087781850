#pragma once

#include <functional>
#include <memory>

#include "core/stop_signal.h"
#include "dist/process_group.h"
#include "dist/rendezvous.h"

namespace dalle {

/// Reacts to a stop that this rank or, as far as is known here, another one was asked for, while
/// other threads do work that does not check for it.
class StopRelay {
 public:
  /// @param react  called once at most, on a thread of its own, and not after destruction
  StopRelay(const ProcessGroup& group, const StopSignal& stop, std::function<void()> react);

 private:
  std::unique_ptr<Alarm> alarm_;
};

/// Lets the other ranks know, until destroyed, of a stop that this rank is asked for.
class StopAnnouncer {
 public:
  /// Both must outlive it.
  StopAnnouncer(ProcessGroup& group, const StopSignal& stop);
  ~StopAnnouncer();
  StopAnnouncer(const StopAnnouncer&) = delete;
  StopAnnouncer& operator=(const StopAnnouncer&) = delete;

 private:
  ProcessGroup& group_;
};

/// Ends this process, whatever its other threads are doing, with the status 128 + the signal's
/// number. For preparation: it has nothing to save, and calls libraries and file systems that
/// cannot be interrupted. The other ranks are told of the stop first.
[[noreturn]] void end_process(const ProcessGroup& group, const StopSignal& stop);

}  // namespace dalle
