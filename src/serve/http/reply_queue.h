#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "serve/http/http_exchange.h"

namespace dalle {

/// How the reply to a request must be written.
struct ReplyFraming {
  bool is_head = false;  ///< the body is not sent
  bool has_chunks =
      true;  ///< false: an HTTP/1.0 client, for which a stream ends with the connection
  bool keep_alive = true;  ///< unless the body ends with the connection
  std::string request_id;
};

/// The bytes of a status line, headers and body of a known size.
/// Broken invariants are header values that would change the structure of the reply.
std::string serialize_response(const HttpResponse& response, const ReplyFraming& framing);

/// The bytes of one reply on their way from any thread to the connection, which takes them piece by
/// piece on a thread of the server. Thread-safe.
class ReplyQueue : public HttpReply {
 public:
  /// @param wake  called when there is something new for the connection; must not block, nor call
  ///              back
  ReplyQueue(ReplyFraming framing, size_t unsent_limit, std::function<void()> wake);

  void send(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  void write(std::string chunk) override;
  void end() override;
  void on_disconnect(std::function<void()> closed) override;
  void note(std::string text) override;

  /// Completes the reply for a handler that does not: sends `failure` if it has sent nothing, else
  /// cuts the stream. What it still sends is dropped.
  void abandon(const HttpResponse& failure);

  /// The next bytes to send; nothing for now if it is empty. The previous ones count as sent.
  std::string next();

  struct Progress {
    bool is_complete;  ///< everything has been queued
    bool is_cut;       ///< the connection must be closed, because the reply will not be complete
    bool keeps_alive;  ///< another request may follow when everything has been sent
    int status;        ///< 0: none yet
    std::string notes;
  };
  Progress progress() const;

  /// The connection is gone. Calls what on_disconnect() has set if the reply is not complete;
  /// `wake` is not called any more.
  void close();

 private:
  enum class State { kEmpty, kStreaming, kComplete, kClosed };

  // The caller of these holds the mutex.
  bool is_dropped() const { return state_ == State::kClosed || is_abandoned_; }
  void push(std::string bytes);
  std::function<void()> finish();  ///< returns what on_disconnect() has set

  mutable std::mutex mutex_;
  ReplyFraming framing_;
  const size_t unsent_limit_;
  std::function<void()> wake_;
  std::function<void()> disconnected_;
  State state_ = State::kEmpty;
  std::deque<std::string> pieces_;
  size_t unsent_bytes_ = 0;  // queued, or taken last
  size_t taken_bytes_ = 0;   // by the last next()
  bool is_cut_ = false;
  bool is_abandoned_ = false;
  int status_ = 0;
  std::string notes_;
};

/// The queue as the reply that a handler gets: abandoned when the handler has dropped it.
/// @param failure  sent if the handler never answers
std::shared_ptr<HttpReply> make_reply(std::shared_ptr<ReplyQueue> queue, HttpResponse failure);

}  // namespace dalle
