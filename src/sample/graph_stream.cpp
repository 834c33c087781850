#include "sample/graph_stream.h"

#ifdef DALLE_CUDA
#include <atomic>
#include <exception>
#include <map>
#include <mutex>

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/log.h"
#include "tensor/torch_error.h"
#endif

namespace dalle {

#ifdef DALLE_CUDA
namespace {

/// Always the same, because the allocator keeps freed memory for the stream that used it.
c10::cuda::CUDAStream stream_of_thread(c10::DeviceIndex device) {
  thread_local std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device))
      .first->second;
}

// LibTorch registers graphs that are being recorded with a device's random generator, without a
// lock.
std::mutex g_recording_mutex;
std::atomic<bool> g_recording_has_failed = false;

void try_to(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception&) {
    // Nothing is left to do about it.
  }
}

/// A graph and the memory that it uses.
class RecordedGraph {
 public:
  /// @throws c10::Error or what `step` throws if it cannot be recorded
  RecordedGraph(c10::DeviceIndex device, const std::function<void()>& step) : device_(device) {
    const std::lock_guard lock(g_recording_mutex);
    try {
      // Other threads may load data or wait for collectives meanwhile.
      graph_->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      step();
      graph_->capture_end();
    } catch (const std::exception&) {
      abandon();
      throw;
    }
  }

  ~RecordedGraph() {
    const std::lock_guard lock(g_recording_mutex);
    free();
  }
  RecordedGraph(const RecordedGraph&) = delete;
  RecordedGraph& operator=(const RecordedGraph&) = delete;

  void replay() { graph_->replay(); }

 private:
  /// Ends a recording for the stream and for the allocators. What has ended already throws.
  void abandon() {
    namespace allocator = c10::cuda::CUDACachingAllocator;
    try_to([&] { graph_->capture_end(); });
    try_to([&] { allocator::endAllocateToPool(device_, pool_); });
    try_to([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool_); });
    try_to([&] { allocator::releasePool(device_, pool_); });
    free();
  }

  /// Without the last step, the memory would stay reserved until some other allocation fails.
  void free() {
    graph_.reset();
    try_to([&] { c10::cuda::CUDACachingAllocator::emptyCache(pool_); });
  }

  c10::DeviceIndex device_;
  at::cuda::MempoolId_t pool_ = at::cuda::graph_pool_handle();
  std::unique_ptr<at::cuda::CUDAGraph> graph_ = std::make_unique<at::cuda::CUDAGraph>();
};

}  // namespace

struct GraphStream::Guard {
  explicit Guard(c10::DeviceIndex device) : stream(stream_of_thread(device)), guard(stream) {}
  ~Guard() {
    try_to([&] { stream.synchronize(); });  // the next call on this device reports errors, too
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  c10::cuda::CUDAStream stream;
  c10::cuda::CUDAStreamGuard guard;
};

GraphStream::GraphStream(c10::Device device) {
  if (!device.is_cuda()) return;
  c10::cuda::getCurrentCUDAStream(device.index()).synchronize();
  guard_ = std::make_unique<Guard>(device.index());
}

std::function<void()> GraphStream::record(const std::function<void()>& step) {
  if (guard_ == nullptr || g_recording_has_failed) return step;
  try {
    const auto graph = std::make_shared<RecordedGraph>(guard_->stream.device_index(), step);
    return [graph] { graph->replay(); };
  } catch (const std::exception& error) {
    if (!g_recording_has_failed.exchange(true))
      log_warning("recording a CUDA graph failed: {}; decoding without, which is slower",
                  error_text(error));
    return step;
  }
}
#else
struct GraphStream::Guard {};

GraphStream::GraphStream(c10::Device) {}

std::function<void()> GraphStream::record(const std::function<void()>& step) {
  return step;
}
#endif

GraphStream::~GraphStream() = default;

}  // namespace dalle
