#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "serve/http/http_server.h"
#include "serve/raw_client.h"

namespace dalle {

inline HttpResponse plain(const std::string& text) {
  return {.status = 200, .content_type = "text/plain", .body = text};
}

inline HttpResponse refuse_plainly(int status, const std::string& message) {
  return {.status = status, .content_type = "text/plain", .body = message};
}

/// Answers with what it understood of the request.
inline void echo(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  reply->send(plain(request.method + " " + request.path + " body=" + request.body));
}

inline HttpServer::Options options_with(const HttpLimits& limits = {}) {
  return {.port = 0, .limits = limits};
}

/// A server with one connection to it.
struct ServerAndClient {
  explicit ServerAndClient(HttpHandler handler, const HttpLimits& limits = {})
      : server(options_with(limits), std::move(handler), refuse_plainly), client(server.port()) {}

  HttpServer server;
  RawClient client;
};

inline constexpr const char* kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Waits for a callback that must come.
template <class T>
T come(std::future<T> future) {
  if (future.wait_for(std::chrono::seconds(10)) != std::future_status::ready)
    throw std::runtime_error("did not come");
  return future.get();
}

}  // namespace dalle
