#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http/connection_context.h"
#include "serve/http/http_exchange.h"
#include "serve/http/reply_queue.h"
#include "serve/http/request_problem.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace dalle {

/// Serves the requests of one connection, one after the other. Everything but close() runs on the
/// strand of the socket.
///
/// All reading is done by start_read(), at most once at a time, also while a reply is pending: only
/// a read notices at once that the client has disconnected. What it reads by then belongs to the
/// next request.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  /// @param context  must outlive the connection
  HttpConnection(boost::asio::ip::tcp::socket socket, ConnectionContext& context);

  boost::asio::any_io_executor executor() { return socket_.get_executor(); }
  const std::string& client() const { return client_; }

  boost::asio::awaitable<void> serve();

  /// Answers with status 503, whatever the request will be.
  boost::asio::awaitable<void> refuse();

  /// Thread-safe.
  void close();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  boost::asio::awaitable<bool> wait_for_request();
  boost::asio::awaitable<bool> serve_request();
  boost::asio::awaitable<bool> answer_request(Parser& parser, HttpRequest& request);
  boost::asio::awaitable<RequestProblem> read_head(Parser& parser);
  boost::asio::awaitable<RequestProblem> read_body(Parser& parser, ReceivedBody& received);
  boost::asio::awaitable<RequestProblem> parse_more(Parser& parser);
  boost::asio::awaitable<bool> answer_problem(const RequestProblem& problem);
  boost::asio::awaitable<bool> send_reply();
  boost::asio::awaitable<bool> read_more();
  boost::asio::awaitable<bool> write(std::string_view bytes);
  boost::asio::awaitable<void> linger();
  boost::asio::awaitable<void> woken();

  RequestProblem copy_head(const Parser& parser, HttpRequest& request);
  void call_handler(HttpRequest request);
  void on_reply_changed();
  void report(bool is_complete);
  void start_read();
  void set_deadline(std::chrono::steady_clock::time_point time);
  void set_deadline(std::chrono::milliseconds time);
  void await_deadline();
  void clear_deadline();
  void disconnect();

  boost::asio::ip::tcp::socket socket_;
  const std::string client_;  // address of the peer
  ConnectionContext& context_;
  boost::asio::steady_timer wake_;  // canceled when something has changed
  boost::asio::steady_timer deadline_;
  bool is_late_ = false;  // the deadline has passed

  std::vector<char> incoming_;
  boost::beast::flat_buffer buffer_;  // what was read and belongs to no request yet
  bool is_reading_ = false;
  boost::system::error_code read_error_;

  std::chrono::steady_clock::time_point begin_;  // of the request
  HttpCompletion completion_;
  std::shared_ptr<ReplyQueue> queue_;  // null: no reply is pending
};

}  // namespace dalle
