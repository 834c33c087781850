#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <utility>

#include "serve/http_server.h"

namespace dalle {

/// What the connections of a server share. Thread-safe.
struct ConnectionContext {
  ConnectionContext(const HttpServer::Options& options, HttpHandler answer, HttpRefusal refuse)
      : limits(options.limits),
        handler(std::move(answer)),
        refusal(std::move(refuse)),
        completed(options.completed) {}

  const HttpLimits limits;
  const HttpHandler handler;
  const HttpRefusal refusal;
  const std::function<void(const HttpCompletion&)> completed;
  std::atomic<size_t> body_bytes = 0;  ///< of requests that are being received

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

/// The part of a body that has been received, while it counts towards
/// ConnectionContext::body_bytes.
class ReceivedBody {
 public:
  explicit ReceivedBody(std::atomic<size_t>& total) : total_(total) {}
  ~ReceivedBody() { resize(0); }
  ReceivedBody(const ReceivedBody&) = delete;
  ReceivedBody& operator=(const ReceivedBody&) = delete;

  void resize(size_t bytes) { total_ += bytes - std::exchange(bytes_, bytes); }

 private:
  std::atomic<size_t>& total_;
  size_t bytes_ = 0;
};

}  // namespace dalle
