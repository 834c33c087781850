#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "serve/http/http_exchange.h"
#include "serve/http/http_limits.h"

namespace dalle {

/// What the connections of a server share. Thread-safe.
struct ConnectionContext {
  ConnectionContext(const HttpLimits& of_server, HttpHandler answer, HttpRefusal refuse,
                    HttpAdmission admission, std::function<void(const HttpCompletion&)> report)
      : limits(of_server),
        handler(std::move(answer)),
        refusal(std::move(refuse)),
        admit(std::move(admission)),
        completed(std::move(report)) {}

  const HttpLimits limits;
  const HttpHandler handler;
  const HttpRefusal refusal;
  const HttpAdmission admit;
  const std::function<void(const HttpCompletion&)> completed;
  /// The bodies of all existing requests, which may outlive the server.
  const std::shared_ptr<std::atomic<size_t>> body_bytes = std::make_shared<std::atomic<size_t>>(0);

  bool begin_reply();  ///< false: the server is stopping
  void end_reply();
  void refuse_new_replies();
  void wait_for_replies(std::chrono::milliseconds at_most);

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  size_t replies_ = 0;
  bool is_stopping_ = false;
};

/// The part of a body that has been received. It counts towards ConnectionContext::body_bytes.
class ReceivedBody {
 public:
  explicit ReceivedBody(std::shared_ptr<std::atomic<size_t>> total) : total_(std::move(total)) {}
  ~ReceivedBody() { resize(0); }
  ReceivedBody(const ReceivedBody&) = delete;
  ReceivedBody& operator=(const ReceivedBody&) = delete;

  void resize(size_t bytes) { *total_ += bytes - std::exchange(bytes_, bytes); }

 private:
  std::shared_ptr<std::atomic<size_t>> total_;
  size_t bytes_ = 0;
};

}  // namespace dalle
