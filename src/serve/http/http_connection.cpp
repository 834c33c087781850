#include "serve/http/http_connection.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/error.h"
#include "core/log.h"
#include "core/seconds.h"
#include "serve/http/request_target.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace dalle {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using std::chrono::steady_clock;

constexpr size_t kReadBytes = 16 << 10;
/// How much a client may send ahead while a reply is pending. More is an error, because without
/// reading on, it could not be noticed that the client has disconnected.
constexpr size_t kMostPipelined = 256 << 10;
/// How long a connection stays open for a client that is still sending, so that it can read why its
/// request was refused. Closing at once would make its system discard the answer.
constexpr std::chrono::seconds kLinger{3};
constexpr size_t kLingerBytes = 16 << 20;
/// How long after a deadline a connection may still be open.
constexpr std::chrono::seconds kAfterDeadline{1};
constexpr int kHttp11 = 11;

std::string address_of_peer(const asio::ip::tcp::socket& socket) {
  error_code error;
  const asio::ip::address address = socket.remote_endpoint(error).address();
  if (error) return "";
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  return address.to_string();
}

}  // namespace

HttpConnection::HttpConnection(asio::ip::tcp::socket socket, ConnectionContext& context)
    : socket_(std::move(socket)),
      client_(address_of_peer(socket_)),
      context_(context),
      wake_(socket_.get_executor()),
      deadline_(socket_.get_executor()),
      incoming_(kReadBytes) {
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  // Notices machines that have vanished without a word while their images are generated.
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
}

asio::awaitable<void> HttpConnection::serve() {
  try {
    for (bool is_open = true; is_open;) {
      is_open = co_await wait_for_request();
      if (is_open) is_open = co_await serve_request();
    }
  } catch (const std::exception& error) {  // such as lack of memory
    log_error("connection closed: {}", error.what());
  }
  disconnect();
}

asio::awaitable<void> HttpConnection::refuse() {
  try {
    begin_ = steady_clock::now();
    const RequestProblem problem{.status = 503, .message = "too many connections"};
    co_await answer_problem(problem);
  } catch (const std::exception& error) {
    log_error("connection closed: {}", error.what());
  }
  disconnect();
}

void HttpConnection::close() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->disconnect(); });
}

/// Ends all operations of the connection, and with them serve().
void HttpConnection::disconnect() {
  error_code ignored;
  socket_.close(ignored);
  if (!read_error_) read_error_ = asio::error::operation_aborted;
  clear_deadline();
  wake_.cancel();
  if (queue_) {
    report(false);
    std::exchange(queue_, nullptr)->close();
    context_.end_reply();
  }
}

/// Waits for the first byte of a request.
/// @return  whether there is one
asio::awaitable<bool> HttpConnection::wait_for_request() {
  set_deadline(context_.limits.idle);
  bool is_there = buffer_.size() > 0;
  if (!is_there) is_there = co_await read_more();
  co_return is_there;
}

/// @return  whether another request may follow
asio::awaitable<bool> HttpConnection::serve_request() {
  begin_ = steady_clock::now();
  set_deadline(context_.limits.request);
  completion_ = {.client = client_, .id = random_id()};
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(context_.limits.header_bytes));
  parser.body_limit(context_.limits.body_bytes);
  HttpRequest request{.client = client_, .id = completion_.id};

  RequestProblem problem = co_await read_head(parser);
  if (!problem) problem = copy_head(parser, request);
  if (problem.is_gone) co_return false;
  if (problem) co_return co_await answer_problem(problem);
  co_return co_await answer_request(parser, request);
}

/// Reads the body of a request whose head has been read, and has it answered.
/// @return  whether another request may follow
asio::awaitable<bool> HttpConnection::answer_request(Parser& parser, HttpRequest& request) {
  auto received = std::make_shared<ReceivedBody>(context_.body_bytes);
  request.body_share = received;
  const ReplyFraming framing{.is_head = completion_.method == "HEAD",
                             .has_chunks = parser.get().version() == kHttp11,
                             .keep_alive = parser.keep_alive(),  // before there may be trailers
                             .request_id = completion_.id};
  RequestProblem problem;
  if (!parser.is_done() && context_.admit) problem.response = context_.admit(request);
  if (problem.response) problem.status = problem.response->status;
  if (!problem) problem = co_await read_body(parser, *received);
  if (problem.is_gone) co_return false;
  auto queue = std::make_shared<ReplyQueue>(
      framing, context_.limits.unsent_bytes,
      [connection = weak_from_this(), executor = socket_.get_executor()] {
        asio::post(executor, [connection] {
          if (const auto self = connection.lock()) self->on_reply_changed();
        });
      });
  if (!problem && !context_.begin_reply())
    problem = {.status = 503, .message = "the server is stopping"};
  if (problem) {
    parser.get().body() = std::string();  // not to be kept while the client reads the answer
    received->resize(0);
    co_return co_await answer_problem(problem);
  }
  queue_ = std::move(queue);  // from here on, disconnect() calls end_reply()
  clear_deadline();
  request.body = std::move(parser.get().body());
  call_handler(std::move(request));
  received.reset();  // now the request alone has it
  co_return co_await send_reply();
}

asio::awaitable<RequestProblem> HttpConnection::read_head(Parser& parser) {
  while (!parser.is_header_done()) {
    RequestProblem problem = co_await parse_more(parser);
    if (problem) co_return problem;
  }
  co_return problem_of_head(parser.get(), context_.limits);
}

/// Fills in what the head says, also for the report.
RequestProblem HttpConnection::copy_head(const Parser& parser, HttpRequest& request) {
  const http::request_header<>& head = parser.get();
  completion_.method = std::string(head.method_string());
  request.method = completion_.method == "HEAD" ? "GET" : completion_.method;
  try {
    request.path = parse_request_target(head.target());
  } catch (const Error& error) {
    return {.status = 400, .message = error.what()};
  }
  completion_.target = std::string(head.target());
  completion_.path = request.path;
  for (const auto& field : head)  // before the body, after which there may be trailers
    request.headers.emplace_back(field.name_string(), field.value());
  return {};
}

asio::awaitable<RequestProblem> HttpConnection::read_body(Parser& parser, ReceivedBody& received) {
  const bool is_awaited = parser.get().count(http::field::expect) > 0 &&
                          parser.get().version() == kHttp11 && buffer_.size() == 0;
  if (is_awaited && !parser.is_done()) {
    const bool is_written = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
    if (!is_written) co_return RequestProblem{.is_gone = true};
    set_deadline(context_.limits.request);
  }
  parser.eager(true);
  while (!parser.is_done()) {
    RequestProblem problem = co_await parse_more(parser);
    if (problem) co_return problem;
    const size_t size = parser.get().body().size();
    received.resize(size);
    // Small requests are served even if others fill the memory.
    if (size > context_.limits.small_body_bytes &&
        *context_.body_bytes > context_.limits.all_bodies_bytes)
      co_return RequestProblem{.status = 503, .message = "too many large requests at once"};
  }
  co_return RequestProblem{};
}

/// Gives the parser what has been read or, if that is not enough, reads more.
asio::awaitable<RequestProblem> HttpConnection::parse_more(Parser& parser) {
  error_code error = http::error::need_more;
  if (buffer_.size() > 0) buffer_.consume(parser.put(buffer_.cdata(), error));
  if (!error) co_return RequestProblem{};
  if (error == http::error::need_more && buffer_.size() > context_.limits.header_bytes)
    error = http::error::header_limit;  // of the last chunk
  if (error != http::error::need_more) co_return problem_of_error(error, context_.limits);
  const bool is_read = co_await read_more();
  if (is_late_)
    co_return RequestProblem{.status = 408, .message = "the request was not sent in time"};
  co_return RequestProblem{.is_gone = !is_read};
}

/// Answers a request that did not reach the handler, and ends the connection.
asio::awaitable<bool> HttpConnection::answer_problem(const RequestProblem& problem) {
  HttpResponse response =
      problem.response ? *problem.response : context_.refusal(problem.status, problem.message);
  if (problem.status == 503) response.headers.emplace_back("retry-after", "1");
  const ReplyFraming framing{.is_head = completion_.method == "HEAD",
                             .keep_alive = false,
                             .request_id = completion_.id.empty() ? random_id() : completion_.id};
  completion_.status = response.status;
  const bool is_written = co_await write(serialize_response(response, framing));
  report(is_written);
  if (is_written) co_await linger();
  co_return false;
}

void HttpConnection::on_reply_changed() {
  // Also while send_reply() waits for a client that does not read.
  if (queue_ && queue_->progress().is_cut) return disconnect();
  wake_.cancel();
}

void HttpConnection::call_handler(HttpRequest request) {
  const std::shared_ptr<ReplyQueue> queue = queue_;
  const HttpResponse failure = context_.refusal(500, "internal error");
  try {
    context_.handler(std::move(request), make_reply(queue, failure));
  } catch (const std::exception& error) {
    log_error("{} {}: {}", completion_.method, completion_.target, error.what());
    queue->abandon(failure);
  }
}

/// Sends the reply while it is being written.
/// @return  whether another request may follow
asio::awaitable<bool> HttpConnection::send_reply() {
  while (queue_) {
    // Before next(), which may get the last piece.
    const ReplyQueue::Progress progress = queue_->progress();
    const bool is_gone = read_error_ || buffer_.size() > kMostPipelined;
    if (progress.is_cut || (is_gone && !progress.is_complete)) break;
    const std::string bytes = queue_->next();
    start_read();
    if (bytes.empty() && progress.is_complete) {
      report(true);
      std::exchange(queue_, nullptr)->close();
      context_.end_reply();
      if (!progress.keeps_alive) co_await linger();
      co_return progress.keeps_alive;
    }
    if (bytes.empty()) {
      co_await woken();
      continue;
    }
    const bool is_written = co_await write(bytes);
    if (!is_written) break;
    clear_deadline();
  }
  disconnect();
  co_return false;
}

void HttpConnection::report(bool is_complete) {
  if (queue_) {
    const ReplyQueue::Progress progress = queue_->progress();
    completion_.status = progress.status;
    completion_.note = progress.notes;
  }
  completion_.is_complete = is_complete;
  completion_.seconds = seconds_since(begin_);
  if (context_.completed && !completion_.id.empty()) context_.completed(completion_);
}

/// Reads in the background, if nothing else does and there is not enough already.
void HttpConnection::start_read() {
  if (is_reading_ || read_error_ || buffer_.size() > kMostPipelined) return;
  is_reading_ = true;
  socket_.async_read_some(
      asio::buffer(incoming_), [self = shared_from_this()](error_code error, size_t size) {
        self->is_reading_ = false;
        asio::buffer_copy(self->buffer_.prepare(size), asio::buffer(self->incoming_, size));
        self->buffer_.commit(size);
        if (error && !self->read_error_) self->read_error_ = error;
        // Also while send_reply() waits for a client that does not read.
        if (error && self->queue_ && !self->queue_->progress().is_complete) self->disconnect();
        self->wake_.cancel();
      });
}

/// @return  whether something was read
asio::awaitable<bool> HttpConnection::read_more() {
  const size_t before = buffer_.size();
  start_read();
  while (is_reading_ && buffer_.size() == before) co_await woken();
  co_return buffer_.size() > before;
}

asio::awaitable<bool> HttpConnection::write(std::string_view bytes) {
  const HttpLimits& limits = context_.limits;
  const steady_clock::time_point latest =
      steady_clock::now() + limits.idle +
      std::chrono::seconds(bytes.size() / limits.bytes_per_second);
  while (!bytes.empty()) {
    set_deadline(std::min(latest, steady_clock::now() + limits.idle));
    error_code error;
    const size_t size = co_await socket_.async_write_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    bytes.remove_prefix(size);
  }
  co_return true;
}

/// Lets the client read what it was sent before the connection is closed.
asio::awaitable<void> HttpConnection::linger() {
  set_deadline(kLinger);
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  if (!is_reading_ && socket_.is_open()) read_error_ = {};  // after a deadline
  size_t discarded = 0;
  for (bool is_open = true; is_open && discarded < kLingerBytes;) {
    buffer_.clear();
    is_open = co_await read_more();
    discarded += buffer_.size();
  }
}

asio::awaitable<void> HttpConnection::woken() {
  error_code ignored;
  wake_.expires_at(steady_clock::time_point::max());
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void HttpConnection::set_deadline(steady_clock::time_point time) {
  is_late_ = false;
  deadline_.expires_at(time);
  await_deadline();
}

void HttpConnection::set_deadline(std::chrono::milliseconds time) {
  set_deadline(steady_clock::now() + time);
}

void HttpConnection::clear_deadline() {
  is_late_ = false;
  deadline_.expires_at(steady_clock::time_point::max());
}

/// After the deadline, cancels the operation in progress. If the connection still has the same
/// deadline after some more time, it is closed.
void HttpConnection::await_deadline() {
  deadline_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->deadline_.expiry() > steady_clock::now()) return;
    if (self->is_late_) return self->disconnect();
    self->is_late_ = true;
    error_code ignored;
    self->socket_.cancel(ignored);
    self->wake_.cancel();
    self->deadline_.expires_after(kAfterDeadline);
    self->await_deadline();
  });
}

}  // namespace dalle
