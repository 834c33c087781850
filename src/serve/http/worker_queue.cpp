#include "serve/http/worker_queue.h"

#include <exception>
#include <utility>

#include "core/log.h"

#include <boost/asio/post.hpp>

namespace dalle {

void WorkerQueue::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (is_scheduled_) return;
    is_scheduled_ = true;
  }
  boost::asio::post(workers_, [queue = shared_from_this()] { queue->run_next(); });
}

void WorkerQueue::run_next() {
  std::function<void()> task;
  {
    const std::lock_guard lock(mutex_);
    task = std::move(tasks_.front());
    tasks_.pop_front();
  }
  try {
    task();
  } catch (const std::exception& error) {
    log_error("error while handling a request: {}", error.what());
  } catch (...) {
    log_error("error while handling a request: unknown exception type");
  }
  task = nullptr;  // releases what it holds before the next one runs
  {
    const std::lock_guard lock(mutex_);
    is_scheduled_ = !tasks_.empty();
    if (!is_scheduled_) return;
  }
  boost::asio::post(workers_, [queue = shared_from_this()] { queue->run_next(); });
}

}  // namespace dalle
