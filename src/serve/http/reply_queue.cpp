#include "serve/http/reply_queue.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/error.h"

#include <boost/beast/http/status.hpp>

namespace dalle {
namespace {

/// "Sun, 06 Nov 1994 08:49:37 GMT"
std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

bool is_header_value(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return is_control_character(c) && c != '\t'; });
}

void append_header(std::string& head, std::string_view name, std::string_view value) {
  DALLE_CHECK(is_header_value(value));
  head.append(name).append(": ").append(value).append("\r\n");
}

/// The status line and all headers except those that say where the body ends.
std::string serialize_head(const HttpResponse& response, const ReplyFraming& framing) {
  const std::string_view reason =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(response.status));
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason);
  append_header(head, "date", http_date());
  if (!response.content_type.empty()) append_header(head, "content-type", response.content_type);
  for (const auto& [name, value] : response.headers) append_header(head, name, value);
  append_header(head, "x-request-id", framing.request_id);
  append_header(head, "x-content-type-options", "nosniff");
  append_header(head, "connection", framing.keep_alive ? "keep-alive" : "close");
  return head;
}

}  // namespace

std::string serialize_response(const HttpResponse& response, const ReplyFraming& framing) {
  DALLE_CHECK(response.status >= 200 && response.status < 600);
  std::string bytes = serialize_head(response, framing);
  const bool may_have_body = response.status != 204 && response.status != 304;
  if (may_have_body) append_header(bytes, "content-length", std::to_string(response.body.size()));
  bytes += "\r\n";
  if (may_have_body && !framing.is_head) bytes += response.body;
  return bytes;
}

ReplyQueue::ReplyQueue(ReplyFraming framing, size_t unsent_limit, std::function<void()> wake)
    : framing_(std::move(framing)), unsent_limit_(unsent_limit), wake_(std::move(wake)) {}

void ReplyQueue::send(HttpResponse response) {
  std::function<void()> released;  // outlives the lock, because what it holds may use this queue
  const std::lock_guard lock(mutex_);
  if (is_dropped()) return;
  DALLE_CHECK(state_ == State::kEmpty);
  push(serialize_response(response, framing_));
  status_ = response.status;
  released = finish();
}

void ReplyQueue::begin_stream(HttpResponse head) {
  const std::lock_guard lock(mutex_);
  if (is_dropped()) return;
  DALLE_CHECK(state_ == State::kEmpty && head.status >= 200 && head.status < 600);
  ReplyFraming framing = framing_;
  framing.keep_alive = framing.keep_alive && framing.has_chunks;
  std::string bytes = serialize_head(head, framing);
  if (framing.has_chunks) append_header(bytes, "transfer-encoding", "chunked");
  push(bytes + "\r\n");
  framing_ = std::move(framing);
  status_ = head.status;
  state_ = State::kStreaming;
  wake_();
}

void ReplyQueue::write(std::string chunk) {
  const std::lock_guard lock(mutex_);
  if (is_dropped()) return;
  DALLE_CHECK(state_ == State::kStreaming);
  if (chunk.empty() || framing_.is_head || is_cut_) return;  // an empty chunk would end the stream
  if (unsent_bytes_ + chunk.size() > unsent_limit_) {
    is_cut_ = true;
    pieces_.clear();
  } else {
    push(framing_.has_chunks ? fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk)
                             : std::move(chunk));
  }
  wake_();
}

void ReplyQueue::end() {
  std::function<void()> released;
  const std::lock_guard lock(mutex_);
  if (is_dropped()) return;
  DALLE_CHECK(state_ == State::kStreaming);
  if (framing_.has_chunks && !framing_.is_head) push("0\r\n\r\n");
  released = finish();
}

void ReplyQueue::abandon(const HttpResponse& failure) {
  std::function<void()> released;
  const std::lock_guard lock(mutex_);
  if (state_ != State::kEmpty && state_ != State::kStreaming) return;
  is_abandoned_ = true;
  if (state_ == State::kEmpty) {
    push(serialize_response(failure, framing_));
    status_ = failure.status;
  } else {
    is_cut_ = true;
  }
  released = finish();
}

void ReplyQueue::on_disconnect(std::function<void()> closed) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kComplete) return;
    if (state_ != State::kClosed) {
      DALLE_CHECK(!disconnected_);
      disconnected_ = std::move(closed);
      return;
    }
  }
  closed();
}

void ReplyQueue::note(std::string text) {
  const std::lock_guard lock(mutex_);
  notes_.append(notes_.empty() ? "" : ", ").append(text);
}

std::string ReplyQueue::next() {
  const std::lock_guard lock(mutex_);
  unsent_bytes_ -= std::exchange(taken_bytes_, 0);
  if (pieces_.empty()) return "";
  std::string bytes = std::move(pieces_.front());
  pieces_.pop_front();
  taken_bytes_ = bytes.size();
  return bytes;
}

ReplyQueue::Progress ReplyQueue::progress() const {
  const std::lock_guard lock(mutex_);
  return {.is_complete = state_ == State::kComplete,
          .is_cut = is_cut_,
          .keeps_alive = framing_.keep_alive && !is_cut_,
          .status = status_,
          .notes = notes_};
}

void ReplyQueue::close() {
  std::function<void()> disconnected;
  {
    const std::lock_guard lock(mutex_);
    disconnected = std::exchange(disconnected_, nullptr);
    wake_ = [] {};
    if (state_ != State::kComplete) state_ = State::kClosed;
    pieces_.clear();
  }
  if (disconnected) disconnected();
}

void ReplyQueue::push(std::string bytes) {
  unsent_bytes_ += bytes.size();
  pieces_.push_back(std::move(bytes));
}

std::function<void()> ReplyQueue::finish() {
  state_ = State::kComplete;
  wake_();
  return std::exchange(disconnected_, nullptr);
}

std::shared_ptr<HttpReply> make_reply(std::shared_ptr<ReplyQueue> queue, HttpResponse failure) {
  ReplyQueue* const reply = queue.get();
  return {reply, [queue = std::move(queue), failure = std::move(failure)](HttpReply*) {
            queue->abandon(failure);
          }};
}

}  // namespace dalle
