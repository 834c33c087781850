#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

namespace dalle {

/// Whether the client of a request still waits for the answer. Thread-safe.
class ClientPresence {
 public:
  bool has_left() const { return has_left_; }

  /// To be called once, when the client disconnects.
  void leave() {
    has_left_ = true;
    const std::lock_guard lock(mutex_);
    if (cancel_) cancel_();
  }

  /// @param cancel  is called when the client leaves; at once if it has left
  void on_leaving(std::function<void()> cancel) {
    const std::lock_guard lock(mutex_);
    cancel_ = std::move(cancel);
    if (has_left_) cancel_();
  }

 private:
  std::atomic<bool> has_left_ = false;
  std::mutex mutex_;
  std::function<void()> cancel_;
};

}  // namespace dalle
