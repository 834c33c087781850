#include "dist/rendezvous.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/loopback.h"
#include "core/seconds.h"
#include "dist/network_address.h"

namespace dalle {
namespace {

/// How long to wait for other ranks before logging it; the pauses between log lines then double.
std::chrono::milliseconds first_notice(std::chrono::milliseconds timeout) {
  return std::min<std::chrono::milliseconds>(std::chrono::seconds(10), timeout / 4);
}

/// The key under which a rank that has arrived puts its address.
std::string address_key(int64_t rank) {
  return fmt::format("here/{}", rank);
}

}  // namespace

Alarm::Alarm(Time time, std::function<std::optional<Time>()> on_expiry)
    : thread_([this, time, expire = std::move(on_expiry)](const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        for (std::optional<Time> wait = time; wait; wait = expire())
          if (changed_.wait_for(lock, stop, *wait, [&] { return stop.stop_requested(); })) return;
      }) {}

c10::intrusive_ptr<c10d::Store> open_store(const RankInfo& info,
                                           std::chrono::milliseconds timeout) {
  const bool serves = info.rank == 0 && !info.store_is_served;
  const auto began = std::chrono::steady_clock::now();
  const Alarm notice(first_notice(timeout), [&, pause = first_notice(timeout)]() mutable {
    if (info.local_rank == 0)  // one rank reports for its machine
      log_info("rank {} of {}: waiting for rank 0 at {}:{} ({:.0f} s of {:.0f})", info.rank,
               info.world_size, info.host, info.port, seconds_since(began), in_seconds(timeout));
    return std::optional(pause *= 2);
  });
  auto store = c10::make_intrusive<c10d::TCPStore>(
      info.host, c10d::TCPStoreOptions{.port = info.port,
                                       .isServer = serves,
                                       .numWorkers = static_cast<size_t>(info.world_size),
                                       .waitWorkers = false,
                                       .timeout = timeout,
                                       .masterListenFd = info.store_socket});
  if (info.store_prefix.empty()) return store;
  return c10::make_intrusive<c10d::PrefixStore>(info.store_prefix, std::move(store));
}

void await_host(const RankInfo& info, std::chrono::milliseconds timeout) {
  // On Kubernetes the name resolves once rank 0's pod runs; elsewhere a name that has no address
  // after some seconds will never have one.
  using Clock = std::chrono::steady_clock;
  const auto limit = environment_variable("KUBERNETES_SERVICE_HOST")
                         ? timeout
                         : std::min<std::chrono::milliseconds>(timeout, std::chrono::seconds(15));
  const auto deadline = Clock::now() + limit;
  for (bool is_logged = false;; is_logged = true) {
    const std::string problem = why_unresolved(info.host);
    if (problem.empty()) return;
    const std::string message = fmt::format(
        "rank 0's host {:?} cannot be resolved: {}; check MASTER_ADDR", info.host, problem);
    if (Clock::now() >= deadline) throw Error("{}", message);
    if (!is_logged && info.local_rank == 0)
      log_warning("{}; retrying for {:.0f} s", message, in_seconds(limit));
    std::this_thread::sleep_for(first_notice(timeout) / 10);
  }
}

void await_ranks(const RankInfo& info, c10d::Store& store, std::chrono::milliseconds timeout,
                 const std::string& address) {
  const auto is_here = [&](int64_t rank) { return store.check({address_key(rank)}); };
  const auto missing = [&] {
    std::vector<int64_t> ranks;
    for (int64_t rank = 0; rank < info.world_size; ++rank)
      if (!is_here(rank)) ranks.push_back(rank);
    return name_ranks(ranks);
  };
  const auto is_first_here = [&] {
    for (int64_t rank = 0; rank < info.rank; ++rank)
      if (is_here(rank)) return false;
    return true;
  };
  std::vector<std::string> keys;
  for (int64_t rank = 0; rank < info.world_size; ++rank) keys.push_back(address_key(rank));
  store.set(keys[static_cast<size_t>(info.rank)], address);
  std::chrono::milliseconds waited{}, pause = first_notice(timeout);
  for (;; pause = std::min(waited, timeout - waited)) {
    try {
      return store.wait(keys, pause);
    } catch (const std::exception&) {
      waited += pause;
      if (waited >= timeout) throw Error("{} did not connect", missing());
      if (is_first_here())  // one rank reports for all
        log_info("waiting for {} of {} at {}:{} ({:.0f} s of {:.0f})", missing(), info.world_size,
                 info.host, info.port, in_seconds(waited), in_seconds(timeout));
    }
  }
}

std::string address_for_others(const RankInfo& info, c10d::Store& store,
                               const std::string& address) {
  if (info.local_world_size == info.world_size) return "127.0.0.1";
  if (!is_loopback(address)) return address;
  for (int64_t rank = 0; rank < info.world_size; ++rank)
    if (const std::string other = store.get_to_str(address_key(rank)); !is_loopback(other))
      return address_towards(other);
  return address;  // all ranks are on this machine
}

}  // namespace dalle
