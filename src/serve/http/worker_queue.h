#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include <boost/asio/thread_pool.hpp>

namespace dalle {

/// Runs the tasks of one request on the worker threads: in order and one at a time, like a strand.
/// After each of them it is another request's turn, so long answers do not delay short ones.
/// Thread-safe. A task that throws is logged: tasks answer for themselves.
class WorkerQueue : public std::enable_shared_from_this<WorkerQueue> {
 public:
  /// @param workers  must outlive the queue
  explicit WorkerQueue(boost::asio::thread_pool& workers) : workers_(workers) {}

  void post(std::function<void()> task);

 private:
  void run_next();

  boost::asio::thread_pool& workers_;
  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  bool is_scheduled_ = false;
};

}  // namespace dalle
