#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dalle {

/// A complete request.
struct HttpRequest {
  /// "GET". A HEAD request arrives as GET, and the server does not send the body of its reply.
  std::string method = {};
  /// Percent-decoded, without the query: "/v1/models". UTF-8 without control characters. May
  /// contain "..": it is only a text, not the name of a file.
  std::string path = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  std::string client = {};  ///< address of the peer
  std::string id = {};      ///< unique; also sent to the client, as x-request-id
  /// While it exists, the body counts towards HttpLimits::all_bodies_bytes.
  std::shared_ptr<const void> body_share = {};

  /// The first header of this name, ignoring case; empty if there is none.
  std::string_view header(std::string_view name) const;
};

/// An id that nobody can guess: 128 random bits of the operating system, in hexadecimal digits.
std::string random_id();

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";  ///< empty: the header is not sent
  std::string body = {};
  /// Besides content-type, content-length, connection, date, x-request-id and
  /// x-content-type-options, which the server adds. Must not contain control characters.
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// The answer to one request: either one send(), or begin_stream(), any number of write(), and
/// end(). Thread-safe; no function blocks. What is written to a connection that has been closed is
/// dropped. If it is destroyed before it is complete, the request is answered with status 500, and
/// a stream is cut.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  virtual void send(HttpResponse response) = 0;

  /// Sends a status and headers; the body of `head` is not used. The body follows in chunks.
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void write(std::string chunk) = 0;
  virtual void end() = 0;

  /// `closed` is called once, on a thread of the server, if the client disconnects before the reply
  /// is complete; at once if it already has.
  virtual void on_disconnect(std::function<void()> closed) = 0;

  /// Adds to HttpCompletion::note; to be called before the reply is complete.
  virtual void note(std::string /*text*/) {}
};

/// Called on a thread of the server for each complete request. It must not block: long work answers
/// later, through the reply, from any thread. An exception is answered with status 500.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;

/// The answer to a request that the server refuses by itself, such as one with a too large body.
/// With status 503, the server adds the header retry-after.
using HttpRefusal = std::function<HttpResponse(int status, const std::string& message)>;

/// What to answer to a request before its body is read, if it has one; nothing: read it. Gets all
/// of the request but the body. Must not block.
using HttpAdmission = std::function<std::optional<HttpResponse>(const HttpRequest& head)>;

/// What became of a request.
struct HttpCompletion {
  std::string method = {};  ///< empty if the request line was not understood
  std::string target = {};  ///< as received: printable ASCII; empty like the method
  std::string path = {};    ///< decoded, as in HttpRequest
  std::string client = {};  ///< address of the peer
  std::string id = {};
  int status = 0;           ///< 0: the client disconnected before there was an answer
  bool is_complete = true;  ///< false: the client disconnected, or the stream was cut
  double seconds = 0;       ///< from the first byte of the request to the last of the reply
  std::string note = {};    ///< of the reply
};

}  // namespace dalle
