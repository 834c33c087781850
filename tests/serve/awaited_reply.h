#pragma once

#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "serve/http/http_exchange.h"

namespace dalle {

/// A reply that keeps what it is sent. Thread-safe.
class AwaitedReply : public HttpReply {
 public:
  void send(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(response);
    done_.set_value();
  }
  void begin_stream(HttpResponse head) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(head);
    response_.body.clear();
  }
  void write(std::string chunk) override {
    const std::lock_guard lock(mutex_);
    response_.body += chunk;
  }
  void end() override { done_.set_value(); }
  void on_disconnect(std::function<void()> closed) override {
    const std::lock_guard lock(mutex_);
    closed_ = std::move(closed);
  }
  void note(std::string text) override {
    const std::lock_guard lock(mutex_);
    note_ += text;
  }

  /// Waits until the reply is complete.
  HttpResponse response() {
    done_.get_future().wait();
    const std::lock_guard lock(mutex_);
    return response_;
  }

  void disconnect() { closed_(); }

  std::string noted() const {
    const std::lock_guard lock(mutex_);
    return note_;
  }

 private:
  mutable std::mutex mutex_;
  HttpResponse response_;
  std::string note_;
  std::function<void()> closed_;
  std::promise<void> done_;
};

inline HttpRequest json_request(std::string path, std::string body) {
  return {.method = "POST",
          .path = std::move(path),
          .headers = {{"Content-Type", "application/json"}},
          .body = std::move(body),
          .client = "127.0.0.1",
          .id = "test"};
}

/// A part of a form: its name, a file name or "", and its content.
struct TestPart {
  std::string name, file, content;
};

inline HttpRequest form_request(std::string path, const std::vector<TestPart>& parts) {
  std::string body;
  for (const auto& [name, file, content] : parts) {
    body += "--edge\r\nContent-Disposition: form-data; name=\"" + name + "\"";
    if (!file.empty()) body += "; filename=\"" + file + "\"";
    body += "\r\n\r\n" + content + "\r\n";
  }
  return {.method = "POST",
          .path = std::move(path),
          .headers = {{"content-type", "multipart/form-data; boundary=edge"}},
          .body = body + "--edge--\r\n",
          .client = "127.0.0.1",
          .id = "test"};
}

}  // namespace dalle
