#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "serve/http_server.h"
#include "serve/routes.h"

namespace dalle {

/// A reply that keeps the only response it is sent.
class RecordedReply : public HttpReply {
 public:
  void send(HttpResponse sent) override { response = std::move(sent); }
  void begin_stream(HttpResponse) override {}
  void write(std::string) override {}
  void end() override {}
  void on_disconnect(std::function<void()>) override {}

  HttpResponse response;
};

inline HttpResponse answer_to(const Routes& routes, const std::string& path,
                              const std::string& etag = "") {
  const auto reply = std::make_shared<RecordedReply>();
  routes.answer({.method = "GET",
                 .path = path,
                 .headers = {{"If-None-Match", etag}},
                 .client = "127.0.0.1",
                 .id = "test"},
                reply);
  return reply->response;
}

inline std::string header_of(const HttpResponse& response, const std::string& name) {
  for (const auto& [one, value] : response.headers)
    if (one == name) return value;
  return "";
}

}  // namespace dalle
