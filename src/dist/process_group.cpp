#include "dalle/dist/process_group.h"

#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#if __has_include(<gloo/rendezvous/store.h>)  // LibTorch has Gloo inside, but not its headers
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef DALLE_CUDA
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/cuda.h>
#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

c10::intrusive_ptr<c10d::Store> open_store(const RankInfo& info, std::chrono::seconds timeout) {
  const bool serves = info.rank == 0 && !info.store_is_served;
  auto store = c10::make_intrusive<c10d::TCPStore>(
      info.host, c10d::TCPStoreOptions{.port = info.port,
                                       .isServer = serves,
                                       .numWorkers = static_cast<size_t>(info.world),
                                       .waitWorkers = false,
                                       .timeout = timeout,
                                       .masterListenFd = info.store_socket});
  if (info.store_prefix.empty()) return store;
  return c10::make_intrusive<c10d::PrefixStore>(info.store_prefix, std::move(store));
}

c10::intrusive_ptr<c10d::Backend> open_backend(const RankInfo& info, c10::Device device,
                                               const c10::intrusive_ptr<c10d::Store>& store,
                                               std::chrono::seconds timeout) {
  const int rank = static_cast<int>(info.rank), world = static_cast<int>(info.world);
#ifdef DALLE_CUDA
  if (device.is_cuda()) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world, options);
  }
#endif
#ifdef USE_C10D_GLOO
  DALLE_CHECK(device.is_cpu());
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  // Ranks of one machine meet on its loopback; else on the interface of the machine's name.
  options->devices.push_back(info.local_world == info.world
                                 ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                 : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, world, options);
#else
  throw Error("this program was built without Gloo's headers (libgloo-dev): CPUs train alone");
#endif
}

}  // namespace

ProcessGroup::ProcessGroup() = default;
ProcessGroup::~ProcessGroup() = default;
ProcessGroup::ProcessGroup(ProcessGroup&&) noexcept = default;
ProcessGroup& ProcessGroup::operator=(ProcessGroup&&) noexcept = default;

ProcessGroup::ProcessGroup(const RankInfo& info, c10::Device device, std::chrono::seconds timeout)
    : rank_(info.rank), world_(info.world), device_(device) {
  if (info.alone()) return;
  try {
    store_ = open_store(info, timeout);
    backend_ = open_backend(info, device, store_, timeout);
    barrier();
  } catch (const std::exception& error) {
    throw Error("rank {} of {} ({}) could not meet the others at {}:{} within {} s: {}", info.rank,
                info.world, info.launcher, info.host, info.port, timeout.count(), error.what());
  }
}

void ProcessGroup::run(const char* name, const std::function<Work(c10d::Backend&)>& begin) {
  if (backend_ == nullptr) return;
  try {
    begin(*backend_)->wait();
    if (device_.is_cuda()) torch::cuda::synchronize(device_.index());
  } catch (const c10::Error& error) {
    throw Error("rank {} of {}: {} failed, another rank is gone or stuck: {}", rank_, world_, name,
                error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw Error("rank {} of {}: {} failed, another rank is gone or stuck: {}", rank_, world_, name,
                error.what());
  }
}

void ProcessGroup::sum(const at::Tensor& tensor) {
  run("sum", [&](c10d::Backend& backend) {
    std::vector<at::Tensor> tensors{tensor};
    return backend.allreduce(tensors);
  });
}

void ProcessGroup::broadcast(const at::Tensor& tensor) {
  run("broadcast", [&](c10d::Backend& backend) {
    std::vector<at::Tensor> tensors{tensor};
    return backend.broadcast(tensors);
  });
}

std::string ProcessGroup::broadcast(const std::string& text) {
  if (world_ == 1) return text;
  const auto size = torch::tensor({static_cast<int64_t>(text.size())}, torch::kLong).to(device_);
  broadcast(size);
  auto bytes = torch::empty({size.item<int64_t>()}, torch::kUInt8);
  if (is_first()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  bytes = bytes.to(device_);
  broadcast(bytes);
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

void ProcessGroup::barrier() {
  const auto one = torch::ones({1}, torch::TensorOptions(device_));
  sum(one);
}

}  // namespace dalle
