#include "dalle/dist/process_group.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <sstream>
#include <stop_token>
#include <thread>
#include <utility>
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
#include "dalle/core/log.h"
#include "dalle/core/seconds.h"
#include "dalle/dist/network_address.h"

namespace dalle {
namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

/// Of collectives: those who wait for a lost rank are told so by their heartbeats.
constexpr std::chrono::hours kForever{24};

/// Why ranks that have met may not get through to one another.
constexpr const char* kNoConnection =
    "the ranks found each other but could not connect; set GLOO_SOCKET_IFNAME, or "
    "NCCL_SOCKET_IFNAME on GPUs, to the network interface that reaches all machines";

std::string message_of(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  return of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
}

/// Calls a function after some time, and again after as long as that returns, until destroyed.
class Alarm {
 public:
  using Time = std::chrono::milliseconds;

  Alarm(Time time, std::function<std::optional<Time>()> on_expiry)
      : thread_([this, time, expire = std::move(on_expiry)](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          for (std::optional<Time> wait = time; wait; wait = expire())
            if (changed_.wait_for(lock, stop, *wait, [&] { return stop.stop_requested(); })) return;
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;
};

/// After how long a wait for other ranks is first logged; then after twice that, and so on.
std::chrono::milliseconds first_notice(std::chrono::milliseconds timeout) {
  return std::min<std::chrono::milliseconds>(std::chrono::seconds(10), timeout / 4);
}

c10::intrusive_ptr<c10d::Store> open_store(const RankInfo& info,
                                           std::chrono::milliseconds timeout) {
  const bool serves = info.rank == 0 && !info.store_is_served;
  const auto began = std::chrono::steady_clock::now();
  const Alarm notice(first_notice(timeout), [&, pause = first_notice(timeout)]() mutable {
    if (info.local_rank == 0)  // it speaks for its machine
      log_info("rank {} of {}: waiting for rank 0 at {}:{} ({:.0f} s of {:.0f})", info.rank,
               info.world, info.host, info.port, seconds_since(began), in_seconds(timeout));
    return std::optional(pause *= 2);
  });
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

/// Waits until the name of rank 0's host resolves. On Kubernetes it does once its pod runs;
/// elsewhere a name that has no address after some seconds has none.
void await_host(const RankInfo& info, std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  const auto patience =
      environment_variable("KUBERNETES_SERVICE_HOST")
          ? timeout
          : std::min<std::chrono::milliseconds>(timeout, std::chrono::seconds(15));
  const auto give_up = Clock::now() + patience;
  for (bool is_logged = false;; is_logged = true) {
    const std::string problem = why_unresolved(info.host);
    if (problem.empty()) return;
    const std::string message = fmt::format(
        "rank 0's host {:?} cannot be resolved: {}; check MASTER_ADDR", info.host, problem);
    if (Clock::now() >= give_up) throw Error("{}", message);
    if (!is_logged && info.local_rank == 0)
      log_warning("{}; retrying for {:.0f} s", message, in_seconds(patience));
    std::this_thread::sleep_for(first_notice(timeout) / 10);
  }
}

std::string address_key(int64_t rank) {
  return fmt::format("here/{}", rank);
}

/// Waits until every rank has come to the store. Each leaves its address there.
void meet(const RankInfo& info, c10d::Store& store, std::chrono::milliseconds timeout,
          const std::string& address) {
  const auto is_here = [&](int64_t rank) { return store.check({address_key(rank)}); };
  const auto missing = [&] {
    std::vector<int64_t> ranks;
    for (int64_t rank = 0; rank < info.world; ++rank)
      if (!is_here(rank)) ranks.push_back(rank);
    return name_ranks(ranks);
  };
  const auto first_is_here = [&] {
    for (int64_t rank = 0; rank < info.rank; ++rank)
      if (is_here(rank)) return false;
    return true;
  };
  std::vector<std::string> keys;
  for (int64_t rank = 0; rank < info.world; ++rank) keys.push_back(address_key(rank));
  store.set(keys[static_cast<size_t>(info.rank)], address);
  std::chrono::milliseconds waited{}, pause = first_notice(timeout);
  for (;; pause = std::min(waited, timeout - waited)) {
    try {
      return store.wait(keys, pause);
    } catch (const std::exception&) {
      waited += pause;
      if (waited >= timeout) throw Error("{} did not connect", missing());
      if (first_is_here())  // it speaks for all
        log_info("waiting for {} of {} at {}:{} ({:.0f} s of {:.0f})", missing(), info.world,
                 info.host, info.port, in_seconds(waited), in_seconds(timeout));
    }
  }
}

/// The address of this rank at which the others reach it: the loopback if all are on one machine,
/// otherwise that of the network on which it meets them. The machine's own name may stand for its
/// loopback, as in Debian's /etc/hosts; so rank 0, which is at MASTER_ADDR itself, looks where the
/// others are.
std::string address_for_others(const RankInfo& info, c10d::Store& store,
                               const std::string& address) {
  if (info.local_world == info.world) return "127.0.0.1";
  if (!is_loopback(address)) return address;
  for (int64_t rank = 0; rank < info.world; ++rank)
    if (const std::string other = store.get_to_str(address_key(rank)); !is_loopback(other))
      return address_towards(other);
  return address;  // all ranks are on this machine
}

#ifdef USE_C10D_GLOO
/// The networks that the user names as PyTorch's users do, e.g. GLOO_SOCKET_IFNAME=ib0,ib1, or that
/// of `address`.
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
  const int rank = static_cast<int>(info.rank), world = static_cast<int>(info.world);
#ifdef DALLE_CUDA
  if (device.is_cuda() && wanted != CommunicationBackend::kGloo) {
    // Once a rank is dead, c10d's watchdog would throw on a thread of its own, and so abort this
    // process before the heartbeats can say which rank it was.
    ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = kForever;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world, options);
  }
#endif
#ifdef USE_C10D_GLOO
  auto options = c10d::ProcessGroupGloo::Options::create(kForever);
  options->devices = gloo_devices(address_for_others(info, *store, address));
  try {
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, world, options);
  } catch (const std::exception& error) {
    throw Error("{} (this rank is at {}): {}", kNoConnection, options->devices.front()->str(),
                message_of(error));
  }
#else
  throw Error("this program was built without Gloo's headers (libgloo-dev): CPUs train alone");
#endif
}

/// While it lives, this rank waits for others.
class Waiting {
 public:
  Waiting(Heartbeat* heartbeat, const char* collective) : heartbeat_(heartbeat) {
    if (heartbeat_ != nullptr) heartbeat_->wait_begins(collective);
  }
  ~Waiting() {
    if (heartbeat_ != nullptr) heartbeat_->wait_ends();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Heartbeat* heartbeat_;
};

}  // namespace

void ProcessGroupOptions::end_process(const LossReport& loss) {
  // The console of a rank that is not the first shows errors alone.
  log_line(loss.is_repeated ? LogLevel::kWarning : LogLevel::kError, loss.text);
  std::_Exit(kExitRankLost);
}

ProcessGroup::ProcessGroup() = default;

ProcessGroup::ProcessGroup(const RankInfo& info, c10::Device device,
                           const ProcessGroupOptions& options)
    : rank_(info.rank), world_(info.world), device_(device) {
  if (options.backend == CommunicationBackend::kNccl && !device.is_cuda())
    throw Error("distributed.backend: found nccl, expected gloo or auto where no GPU computes");
  if (info.alone() && info.host.empty()) return;
  const auto could_not_meet = [&](const std::string& cause) {
    return Error("rank {} of {} ({}) could not meet the others at {}:{} within {:.0f} s: {}",
                 info.rank, info.world, info.launcher, info.host, info.port,
                 in_seconds(options.timeout), cause);
  };
  std::atomic<const char*> obstacle =
      "rank 0, or the launcher that hosts the store, does not respond";
  // A store whose keeper is stopped, not dead, takes connections and never answers.
  const Alarm deadline(2 * options.timeout + std::chrono::seconds(5), [&] {
    options.on_lost({.text = could_not_meet(obstacle.load()).what()});
    return std::nullopt;
  });
  await_host(info, options.timeout);
  try {
    store_ = open_store(info, options.timeout);
    const std::string address = address_towards(info.host);
    meet(info, *store_, options.timeout, address);
    obstacle = kNoConnection;
    heartbeat_ = std::make_unique<Heartbeat>(store_->clone(), rank_, world_, options.timeout,
                                             options.on_lost);
    backend_ = open_backend(info, device, options.backend, store_, address);
    barrier();
  } catch (const std::exception& error) {
    const Error failure = could_not_meet(message_of(error));
    if (heartbeat_ != nullptr) heartbeat_->announce_failure(failure.what());
    throw failure;
  }
}

/// The heartbeat goes first: the rank that keeps the store stays in it until the others have left.
ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::enter(Phase phase, int64_t step) {
  if (heartbeat_ != nullptr) heartbeat_->enter(phase, step);
}

void ProcessGroup::watch_for_stop(std::function<bool()> is_asked) {
  if (heartbeat_ != nullptr) heartbeat_->watch_for_stop(std::move(is_asked));
}

bool ProcessGroup::stop_is_wanted() const {
  return heartbeat_ != nullptr && heartbeat_->stop_is_wanted();
}

void ProcessGroup::set_saving(bool saving) {
  if (heartbeat_ != nullptr) heartbeat_->set_saving(saving);
}

std::chrono::steady_clock::duration ProcessGroup::patience() const {
  return heartbeat_ != nullptr ? heartbeat_->patience() : std::chrono::steady_clock::duration();
}

std::unique_ptr<NoteBoard> ProcessGroup::note_board() const {
  return store_ == nullptr ? nullptr : std::make_unique<NoteBoard>(store_->clone());
}

bool ProcessGroup::announce_failure(const std::string& message) {
  return heartbeat_ == nullptr || heartbeat_->announce_failure(message);
}

/// The error of a collective: with the rank that is to blame, if it can be found.
RankLost ProcessGroup::failure(const char* name, const std::string& cause) {
  const std::string lost = heartbeat_ == nullptr ? "" : heartbeat_->find_lost();
  return RankLost("rank {} of {}: {} failed, another rank is gone or stuck: {}", rank_, world_,
                  name, lost.empty() ? cause : lost);
}

PendingCollective::PendingCollective() = default;
PendingCollective::~PendingCollective() = default;
PendingCollective::PendingCollective(PendingCollective&&) noexcept = default;
PendingCollective& PendingCollective::operator=(PendingCollective&&) noexcept = default;

void PendingCollective::wait(bool on_host) {
  if (work_ == nullptr) return;
  const auto began = Clock::now();
  const Waiting waiting(group_->heartbeat_.get(), name_);
  try {
    work_->wait();
  } catch (const c10::AcceleratorError&) {  // of this rank's own GPU: no other one is to blame
    throw;
  } catch (const std::exception& error) {
    throw group_->failure(name_, message_of(error));
  }
  // Here all errors are the own GPU's.
  if (on_host && group_->device_.is_cuda()) torch::cuda::synchronize(group_->device_.index());
  group_->waited_s_ += seconds_since(began);
}

PendingCollective ProcessGroup::begin(const char* name, std::vector<at::Tensor> tensors,
                                      const Begin& begin) {
  PendingCollective pending;
  pending.group_ = this;
  pending.name_ = name;
  pending.tensors_ = std::move(tensors);
  pending.begin_ = PendingCollective::Clock::now();
  pending.end_ =
      std::make_shared<std::atomic<PendingCollective::Clock::time_point>>(pending.begin_);
  if (backend_ == nullptr) return pending;
  try {
    pending.work_ = begin(*backend_);
  } catch (const c10::AcceleratorError&) {  // of this rank's own GPU: no other one is to blame
    throw;
  } catch (const c10::Error& error) {
    throw failure(name, message_of(error));
  }
  return pending;
}

void ProcessGroup::run(const char* name, std::vector<at::Tensor> tensors, const Begin& begin) {
  this->begin(name, std::move(tensors), begin).wait(/*on_host=*/true);
}

void ProcessGroup::sum(const at::Tensor& tensor) {
  begin_sum(tensor).wait(/*on_host=*/true);
}

PendingCollective ProcessGroup::begin_sum(const at::Tensor& tensor) {
  PendingCollective pending = begin("sum", {tensor}, [&](c10d::Backend& backend) {
    std::vector<at::Tensor> tensors{tensor};
    return backend.allreduce(tensors);
  });
  if (backend_ != nullptr && device_.is_cpu())  // of Gloo's collectives, this one can tell
    pending.work_->getFuture()->addCallback(
        [end = pending.end_](auto&) { *end = PendingCollective::Clock::now(); });
  return pending;
}

PendingCollective ProcessGroup::begin_reduce_scatter(const at::Tensor& part,
                                                     const at::Tensor& whole) {
  DALLE_CHECK(whole.numel() == world_ * part.numel());
  if (backend_ == nullptr) part.copy_(whole);
  return begin("reduce-scatter", {part, whole}, [&](c10d::Backend& backend) {
    at::Tensor output = part, input = whole;
    return backend._reduce_scatter_base(output, input);
  });
}

void ProcessGroup::all_gather(const at::Tensor& whole, const at::Tensor& part) {
  DALLE_CHECK(whole.numel() == world_ * part.numel());
  if (backend_ == nullptr) return void(whole.copy_(part));
  run("all-gather", {whole, part}, [&](c10d::Backend& backend) {
    at::Tensor output = whole, input = part;
    return backend._allgather_base(output, input);
  });
}

void ProcessGroup::all_to_all(const at::Tensor& received, const at::Tensor& sent) {
  DALLE_CHECK(received.numel() == sent.numel() && sent.numel() % world_ == 0);
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
  if (is_first()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  bytes = bytes.to(device_);
  broadcast(bytes);
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

std::vector<std::string> ProcessGroup::gather(const std::string& text) {
  if (backend_ == nullptr) return {text};
  const auto options = torch::TensorOptions(device_);
  auto sizes = torch::zeros({world_}, options.dtype(torch::kLong));
  sizes[rank_] = static_cast<int64_t>(text.size());
  sum(sizes);
  sizes = sizes.cpu();
  const int64_t longest = sizes.max().item<int64_t>();
  auto own = torch::zeros({longest}, torch::kUInt8);
  std::memcpy(own.mutable_data_ptr(), text.data(), text.size());
  auto all = torch::empty({world_ * longest}, options.dtype(torch::kUInt8));
  if (longest > 0) all_gather(all, own.to(device_));
  all = all.cpu();
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < world_; ++rank)
    texts.emplace_back(static_cast<const char*>(all.const_data_ptr()) + rank * longest,
                       static_cast<size_t>(sizes[rank].item<int64_t>()));
  return texts;
}

void ProcessGroup::barrier() {
  const auto one = torch::ones({1}, torch::TensorOptions(device_));
  sum(one);
}

}  // namespace dalle
