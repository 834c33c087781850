#include "serve/http/connection_context.h"

namespace dalle {

bool ConnectionContext::begin_reply() {
  const std::lock_guard lock(mutex_);
  if (is_stopping_) return false;
  ++replies_;
  return true;
}

void ConnectionContext::end_reply() {
  {
    const std::lock_guard lock(mutex_);
    --replies_;
  }
  ended_.notify_all();
}

void ConnectionContext::refuse_new_replies() {
  const std::lock_guard lock(mutex_);
  is_stopping_ = true;
}

void ConnectionContext::wait_for_replies(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, at_most, [&] { return replies_ == 0; });
}

}  // namespace dalle
