#pragma once

#include <functional>
#include <memory>

#include <c10/core/Device.h>

namespace dalle {

/// Records work as CUDA graphs, which a GPU replays without a launch by the host for each kernel.
/// While an object exists, what its thread computes on the device goes to a stream other than the
/// default one, which cannot be recorded. On the CPU, it does nothing.
class GraphStream {
 public:
  /// Waits for earlier work of the thread on the device.
  explicit GraphStream(c10::Device device);
  /// Waits for the work on the stream.
  ~GraphStream();

  /// Recording computes nothing. If it fails, that is logged, and nothing is recorded from then on.
  /// @param step  only launches work on the stream: it must neither wait for the device nor copy
  ///              from the host, and each call must launch the same work on the same tensors, which
  ///              must stay allocated. Call it once or twice before, because first calls allocate
  ///              memory and load kernels.
  /// @return      a function that does the work of `step`: `step` itself on the CPU or without a
  ///              recording
  std::function<void()> record(const std::function<void()>& step);

 private:
  struct Guard;
  std::unique_ptr<Guard> guard_;
};

}  // namespace dalle
