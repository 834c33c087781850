#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dalle {

/// A complete request.
struct HttpRequest {
  std::string method;  ///< "GET"
  std::string path;    ///< percent-decoded, without the query: "/v1/models"
  std::map<std::string, std::string> query;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string client;  ///< address of the peer
  std::string id;      ///< unique; also sent to the client, as x-request-id

  /// The first header of this name, ignoring case; empty if there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// The answer to one request: either one send(), or begin_stream(), any number of write(), and
/// end(). Thread-safe; no function blocks. What is written to a connection that has been closed is
/// dropped.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  virtual void send(HttpResponse response) = 0;

  /// Sends a status and headers; the body of `head` is not used. The body follows in chunks.
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void write(std::string chunk) = 0;
  virtual void end() = 0;

  /// `closed` is called once, on a thread of the server, if the client disconnects before the
  /// reply is complete; at once if it already has.
  virtual void on_disconnect(std::function<void()> closed) = 0;
};

struct HttpLimits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 64 << 20;
  size_t connections = 256;
  /// Of a client that is neither sending nor reading what it is sent.
  std::chrono::seconds idle = std::chrono::seconds(30);
  /// For a complete request, from its first byte.
  std::chrono::seconds request = std::chrono::seconds(60);
  size_t unsent_bytes = 64 << 20;  ///< of a stream that a client reads too slowly; then it is closed
};

/// Called on a thread of the server for each complete request. It must not block: long work answers
/// later, through the reply, from any thread. An exception is answered with status 500.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

/// The answer to a request that the server refuses by itself, such as one with a too large body.
using HttpRefusal = std::function<HttpResponse(int status, const std::string& message)>;

/// An HTTP/1.1 server on threads of its own.
class HttpServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    uint16_t port = 8080;  ///< 0: any free one
    HttpLimits limits = {};
  };

  /// Begins to listen and serve.
  /// @throws dalle::Error naming the address if it cannot be bound
  HttpServer(const Options& options, HttpHandler handler, HttpRefusal refusal);
  ~HttpServer();  ///< calls stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  size_t connections() const;

  /// Accepts no more connections; those that are open are served until their replies are complete,
  /// but for at most `grace`, and then closed.
  void stop(std::chrono::seconds grace = std::chrono::seconds(0));

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
