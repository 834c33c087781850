#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "serve/http/http_exchange.h"
#include "serve/http/http_limits.h"

namespace dalle {

/// An HTTP/1.1 server on threads of its own.
class HttpServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    uint16_t port = 8080;  ///< 0: any free one
    HttpLimits limits = {};
    HttpAdmission admit = {};
    /// Called once the port is known, before anything is served.
    std::function<void(uint16_t port)> listening = {};
    /// Called on a thread of the server after each request, refused ones too. Must not block.
    std::function<void(const HttpCompletion&)> completed = {};
  };

  /// Begins to listen and serve.
  /// @throws dalle::Error naming the address if it cannot be bound
  HttpServer(const Options& options, HttpHandler handler, HttpRefusal refusal);
  ~HttpServer();  ///< calls stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

  /// From now on, new requests are answered with status 503. Waits until the replies in progress
  /// are complete, but at most for `grace`; then closes all connections and ends the threads.
  void stop(std::chrono::milliseconds grace = std::chrono::seconds(0));

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
