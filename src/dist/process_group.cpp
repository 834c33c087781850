#include "dist/process_group.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ScopeExit.h>

#if __has_include(<gloo/rendezvous/store.h>)  // LibTorch has Gloo inside, but not its headers
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#include <torch/csrc/distributed/c10d/Store.hpp>
#ifdef DALLE_CUDA
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/cuda.h>
#include <torch/types.h>

#include "core/error.h"
#include "core/log.h"
#include "core/seconds.h"
#include "dist/network_address.h"
#include "dist/rendezvous.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

/// The timeout of collectives: heartbeats find out that a rank is lost.
constexpr std::chrono::hours kForever{24};

/// Why ranks that have found each other through the store may still fail to connect.
constexpr const char* kNoConnection =
    "the ranks found each other but could not connect; set GLOO_SOCKET_IFNAME, or "
    "NCCL_SOCKET_IFNAME on GPUs, to the network interface that reaches all machines";

#ifdef USE_C10D_GLOO
/// The network interfaces in GLOO_SOCKET_IFNAME, PyTorch's variable (e.g. ib0,ib1), or the one that
/// has `address`.
std::vector<std::shared_ptr<gloo::transport::Device>> gloo_devices(const std::string& address) {
  using c10d::ProcessGroupGloo;
  std::vector<std::shared_ptr<gloo::transport::Device>> devices;
  std::istringstream names(environment_variable("GLOO_SOCKET_IFNAME").value_or(""));
  for (std::string name; std::getline(names, name, ',');)
    if (!name.empty()) devices.push_back(ProcessGroupGloo::createDeviceForInterface(name));
  if (!devices.empty()) return devices;
  return {address.empty() ? ProcessGroupGloo::createDefaultDevice()
                          : ProcessGroupGloo::createDeviceForHostname(address)};
}
#endif

c10::intrusive_ptr<c10d::Backend> open_backend(const RankInfo& info,
                                               [[maybe_unused]] c10::Device device,
                                               [[maybe_unused]] CommunicationBackend wanted,
                                               const c10::intrusive_ptr<c10d::Store>& store,
                                               [[maybe_unused]] const std::string& address) {
  const int rank = static_cast<int>(info.rank), world_size = static_cast<int>(info.world_size);
#ifdef DALLE_CUDA
  if (device.is_cuda() && wanted != CommunicationBackend::kGloo) {
    // When a rank dies or this rank's own GPU fails, c10d's watchdog thread would throw and abort
    // this process before the heartbeats can say so. torchrun sets the first variable to 1.
    ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/1);
    ::setenv("TORCH_NCCL_RETHROW_CUDA_ERRORS", "0", /*overwrite=*/0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = kForever;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world_size, options);
  }
#endif
#ifdef USE_C10D_GLOO
  auto options = c10d::ProcessGroupGloo::Options::create(kForever);
  options->devices = gloo_devices(address_for_others(info, *store, address));
  try {
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, world_size, options);
  } catch (const std::exception& error) {
    throw Error("{} (this rank is at {}): {}", kNoConnection, options->devices.front()->str(),
                error_text(error));
  }
#else
  throw Error(
      "this program was built without Gloo's headers (libgloo-dev) and cannot train on several CPU "
      "ranks");
#endif
}

}  // namespace

void ProcessGroupOptions::end_process(const LossReport& loss) {
  // The consoles of ranks other than rank 0 show only errors.
  log_line(loss.is_repeated ? LogLevel::kWarning : LogLevel::kError, loss.text);
  std::_Exit(kExitRankLost);
}

ProcessGroup::ProcessGroup() = default;

ProcessGroup::ProcessGroup(const RankInfo& info, c10::Device device,
                           const ProcessGroupOptions& options)
    : rank_(info.rank), world_size_(info.world_size), device_(device) {
  if (options.backend == CommunicationBackend::kNccl && !device.is_cuda())
    throw Error("distributed.backend: found nccl, expected gloo or auto for CPUs");
  if (info.alone() && info.host.empty()) return;
  const auto connection_error = [&](const std::string& cause) {
    return Error(
        "rank {} of {} ({}) could not connect to the other ranks at {}:{} within {:.0f} s: {}",
        info.rank, info.world_size, info.launcher, info.host, info.port,
        in_seconds(options.timeout), cause);
  };
  std::atomic<const char*> obstacle =
      "rank 0, or the launcher that hosts the store, does not respond";
  // A store whose process is stopped rather than dead accepts connections and never responds.
  // Three phases, each of which may take that long.
  const Alarm deadline(3 * options.timeout + std::chrono::seconds(5), [&] {
    options.on_lost({.text = connection_error(obstacle.load()).what()});
    return std::nullopt;
  });
  await_host(info, options.timeout);
  try {
    store_ = open_store(info, options.timeout);
    const std::string address = address_towards(info.host);
    await_ranks(info, *store_, options.timeout, address);
    obstacle = kNoConnection;
    heartbeat_ = std::make_unique<Heartbeat>(store_->clone(), rank_, world_size_, options.timeout,
                                             options.on_lost);
    backend_ = open_backend(info, device, options.backend, store_, address);
    barrier();
  } catch (const std::exception& error) {
    const Error failure = connection_error(error_text(error));
    if (heartbeat_ != nullptr) heartbeat_->announce_failure(failure.what());
    throw failure;
  }
}

/// The heartbeat is destroyed first: the rank that hosts the store waits in it until the others
/// have left.
ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::set_phase(Phase phase, int64_t step) {
  if (heartbeat_ != nullptr) heartbeat_->set_phase(phase, step);
}

void ProcessGroup::watch_for_stop(std::function<bool()> is_asked) {
  if (heartbeat_ != nullptr) heartbeat_->watch_for_stop(std::move(is_asked));
}

bool ProcessGroup::stop_requested() const {
  return heartbeat_ != nullptr && heartbeat_->stop_requested();
}

void ProcessGroup::set_saving(bool saving) {
  if (heartbeat_ != nullptr) heartbeat_->set_saving(saving);
}

std::chrono::steady_clock::duration ProcessGroup::save_grace() const {
  return heartbeat_ != nullptr ? heartbeat_->save_grace() : std::chrono::steady_clock::duration();
}

std::unique_ptr<StoreMailbox> ProcessGroup::store_mailbox() const {
  return store_ == nullptr ? nullptr : std::make_unique<StoreMailbox>(store_->clone());
}

bool ProcessGroup::announce_failure(const std::string& message) {
  return heartbeat_ == nullptr || heartbeat_->announce_failure(message);
}

/// The error of a collective; names the rank to blame if it can be found.
RankLost ProcessGroup::failure(const char* name, const std::string& cause) {
  const std::string lost = heartbeat_ == nullptr ? "" : heartbeat_->find_lost_rank();
  return RankLost("rank {} of {}: {} failed because another rank has exited or hangs: {}", rank_,
                  world_size_, name, lost.empty() ? cause : lost);
}

Work::Work() = default;
Work::~Work() = default;
Work::Work(Work&&) noexcept = default;
Work& Work::operator=(Work&&) noexcept = default;

void Work::wait(bool on_host) {
  if (work_ == nullptr) return;
  const auto began = Clock::now();
  Heartbeat* const heartbeat = group_->heartbeat_.get();
  if (heartbeat != nullptr) heartbeat->wait_begins(name_);
  const auto at_end = c10::make_scope_exit([&] {
    if (heartbeat != nullptr) heartbeat->wait_ends();
  });
  try {
    work_->wait();
  } catch (const c10::AcceleratorError&) {  // this rank's own GPU failed; no other rank is to blame
    throw;
  } catch (const std::exception& error) {
    throw group_->failure(name_, error_text(error));
  }
  // From here on, all errors come from this rank's own GPU.
  if (on_host && group_->device_.is_cuda()) torch::cuda::synchronize(group_->device_.index());
  group_->waited_s_ += seconds_since(began);
}

Work ProcessGroup::begin(const char* name, std::vector<at::Tensor> tensors, const Begin& begin) {
  Work pending;
  pending.group_ = this;
  pending.name_ = name;
  pending.tensors_ = std::move(tensors);
  pending.begin_ = Work::Clock::now();
  pending.end_ = std::make_shared<std::atomic<Work::Clock::time_point>>(pending.begin_);
  if (backend_ == nullptr) return pending;
  try {
    pending.work_ = begin(*backend_);
  } catch (const c10::AcceleratorError&) {  // this rank's own GPU failed; no other rank is to blame
    throw;
  } catch (const c10::Error& error) {
    throw failure(name, error_text(error));
  }
  return pending;
}

void ProcessGroup::run(const char* name, std::vector<at::Tensor> tensors, const Begin& begin) {
  // What this rank's GPU still has to compute is not time spent waiting for others.
  if (backend_ != nullptr && device_.is_cuda())
    c10::impl::VirtualGuardImpl(c10::kCUDA).getStream(device_).synchronize();
  this->begin(name, std::move(tensors), begin).wait(/*on_host=*/true);
}

void ProcessGroup::all_reduce(const at::Tensor& tensor) {
  all_reduce_async(tensor).wait(/*on_host=*/true);
}

Work ProcessGroup::all_reduce_async(const at::Tensor& tensor) {
  Work pending = begin("all-reduce", {tensor}, [&](c10d::Backend& backend) {
    std::vector<at::Tensor> tensors{tensor};
    return backend.allreduce(tensors);
  });
  if (backend_ != nullptr && device_.is_cpu())  // only Gloo's all-reduce reports when it ends
    pending.work_->getFuture()->addCallback(
        [end = pending.end_](auto&) { *end = Work::Clock::now(); });
  return pending;
}

Work ProcessGroup::reduce_scatter_async(const at::Tensor& part, const at::Tensor& full) {
  DALLE_CHECK(full.numel() == world_size_ * part.numel());
  if (backend_ == nullptr) part.copy_(full);
  return begin("reduce-scatter", {part, full}, [&](c10d::Backend& backend) {
    at::Tensor output = part, input = full;
    return backend._reduce_scatter_base(output, input);
  });
}

void ProcessGroup::all_gather(const at::Tensor& full, const at::Tensor& part) {
  DALLE_CHECK(full.numel() == world_size_ * part.numel());
  if (backend_ == nullptr) return void(full.copy_(part));
  run("all-gather", {full, part}, [&](c10d::Backend& backend) {
    at::Tensor output = full, input = part;
    return backend._allgather_base(output, input);
  });
}

void ProcessGroup::all_to_all(const at::Tensor& received, const at::Tensor& sent) {
  DALLE_CHECK(received.numel() == sent.numel() && sent.numel() % world_size_ == 0);
  if (backend_ == nullptr) return void(received.copy_(sent));
  run("all-to-all", {received, sent}, [&](c10d::Backend& backend) {
    at::Tensor output = received, input = sent;
    std::vector<int64_t> even;  // empty: equal parts
    return backend.alltoall_base(output, input, even, even);
  });
}

void ProcessGroup::broadcast(const at::Tensor& tensor) {
  run("broadcast", {tensor}, [&](c10d::Backend& backend) {
    std::vector<at::Tensor> tensors{tensor};
    return backend.broadcast(tensors);
  });
}

std::string ProcessGroup::broadcast(const std::string& text) {
  if (backend_ == nullptr) return text;
  const auto size = torch::tensor({static_cast<int64_t>(text.size())}, torch::kLong).to(device_);
  broadcast(size);
  if (size.item<int64_t>() == 0) return "";
  auto bytes = torch::empty({size.item<int64_t>()}, torch::kUInt8);
  if (is_rank_zero()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  bytes = bytes.to(device_);
  broadcast(bytes);
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

std::vector<std::string> ProcessGroup::all_gather_strings(const std::string& text) {
  if (backend_ == nullptr) return {text};
  auto ends = torch::zeros({world_size_}, torch::TensorOptions(device_).dtype(torch::kLong));
  ends.slice(0, rank_).add_(static_cast<int64_t>(text.size()));
  all_reduce(ends);
  ends = ends.cpu();
  const auto end_of = [&](int64_t rank) {
    return rank < 0 ? size_t{0} : static_cast<size_t>(ends[rank].item<int64_t>());
  };
  // The sum of all texts, each at its own place among zeros; in pieces, so that long texts never
  // run out of the device's memory.
  constexpr int64_t kPiece = 1 << 20;
  std::string all(end_of(world_size_ - 1), '\0');
  all.replace(end_of(rank_ - 1), text.size(), text);
  const auto total = static_cast<int64_t>(all.size());
  for (int64_t begin = 0; begin < total; begin += kPiece) {
    const auto host =
        torch::from_blob(all.data() + begin, {std::min(kPiece, total - begin)}, torch::kUInt8);
    const auto piece = host.to(device_);
    all_reduce(piece);
    if (!device_.is_cpu()) host.copy_(piece);
  }
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < world_size_; ++rank)
    texts.push_back(all.substr(end_of(rank - 1), end_of(rank) - end_of(rank - 1)));
  return texts;
}

bool ProcessGroup::any(bool own) {
  if (backend_ == nullptr) return own;
  const auto count = torch::tensor({own ? 1 : 0}, torch::kInt).to(device_);
  all_reduce(count);
  return count.item<int>() > 0;
}

void ProcessGroup::barrier() {
  const auto one = torch::ones({1}, torch::TensorOptions(device_));
  all_reduce(one);
}

}  // namespace dalle
