#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <c10/util/intrusive_ptr.h>

#include "dist/rank_info.h"

namespace c10d {
class Store;
}

namespace dalle {

/// Calls a function after some time, and again after each further time that it returns, until it
/// returns nothing or the alarm is destroyed. The calls come from the alarm's own thread.
class Alarm {
 public:
  using Time = std::chrono::milliseconds;

  Alarm(Time time, std::function<std::optional<Time>()> on_expiry);

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;
};

/// Waits until the name of rank 0's host resolves.
/// @throws dalle::Error if it does not within a few seconds or, on Kubernetes, within the timeout
void await_host(const RankInfo& info, std::chrono::milliseconds timeout);

/// Opens the store through which the ranks find each other; rank 0 hosts it unless the launcher
/// does. Logs from time to time that it is waiting for rank 0.
/// @throws c10::Error if rank 0 cannot be reached within the timeout
c10::intrusive_ptr<c10d::Store> open_store(const RankInfo& info, std::chrono::milliseconds timeout);

/// Puts the address of this rank into the store, waits until every rank has done so, and logs from
/// time to time which ones are missing.
/// @throws dalle::Error naming the ranks that did not connect within the timeout
void await_ranks(const RankInfo& info, c10d::Store& store, std::chrono::milliseconds timeout,
                 const std::string& address);

/// The address at which the other ranks reach this one: the loopback if all are on one machine,
/// else that of the network on which they meet. The machine's own name may stand for its loopback,
/// as in Debian's /etc/hosts, so rank 0, which is at MASTER_ADDR itself, looks at where the others
/// are.
/// @param address  from which packets to rank 0 leave
std::string address_for_others(const RankInfo& info, c10d::Store& store,
                               const std::string& address);

}  // namespace dalle
