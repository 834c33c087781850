#pragma once

#include <functional>
#include <string>
#include <utility>

#include "serve/http_server.h"

namespace dalle {

/// A reply that keeps what is sent.
class RecordedReply : public HttpReply {
 public:
  void send(HttpResponse sent) override {
    response = std::move(sent);
    ++sends;
  }
  void begin_stream(HttpResponse head) override { response = std::move(head); }
  void write(std::string chunk) override { response.body += chunk; }
  void end() override {}
  void on_disconnect(std::function<void()>) override {}

  std::string header(const std::string& name) const {
    for (const auto& [one, value] : response.headers)
      if (one == name) return value;
    return "";
  }

  HttpResponse response;
  int sends = 0;
};

}  // namespace dalle
