#include "serve/http/http_server.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "core/log.h"
#include "core/loopback.h"
#include "serve/http/connection_context.h"
#include "serve/http/http_connection.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace dalle {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

/// One may be busy with a large request while the other answers small ones.
constexpr int kServerThreads = 2;
/// Connections beyond the limit that are told so; others are closed without a word.
constexpr size_t kMostRefused = 32;
/// How long to wait when the process has no file descriptor left for a connection.
constexpr std::chrono::milliseconds kAcceptPause{100};

}  // namespace

class HttpServer::Implementation {
 public:
  Implementation(const Options& options, HttpHandler handler, HttpRefusal refusal)
      : context_(options.limits, std::move(handler), std::move(refusal), options.admit,
                 options.completed) {
    listen(options.host, options.port);
    if (options.listening) options.listening(port_);
    asio::co_spawn(
        acceptor_.get_executor(), [this] { return accept(); }, [](std::exception_ptr) {});
    for (std::thread& thread : threads_) thread = std::thread([this] { run(); });
  }

  ~Implementation() { stop(std::chrono::seconds(0)); }

  uint16_t port() const { return port_; }

  void stop(std::chrono::milliseconds grace) {
    if (!threads_.front().joinable()) return;
    context_.refuse_new_replies();
    context_.wait_for_replies(grace);
    asio::post(acceptor_.get_executor(), [this] {
      boost::system::error_code ignored;
      acceptor_.close(ignored);
      pause_.cancel();
      for (const auto& connection : connections_) connection->close();
    });
    work_.reset();  // the threads end when the last connection has
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void listen(const std::string& host, uint16_t port) {
    try {
      const auto endpoints = tcp::resolver(io_).resolve(host, std::to_string(port));
      const tcp::endpoint endpoint = endpoints.begin()->endpoint();
      acceptor_.open(endpoint.protocol());
      acceptor_.set_option(tcp::acceptor::reuse_address(true));
      acceptor_.bind(endpoint);
      acceptor_.listen();
      port_ = acceptor_.local_endpoint().port();
    } catch (const boost::system::system_error& error) {
      throw Error("{}:{}: cannot listen: {}", host, port, error.code().message());
    }
  }

  void run() {
    for (;;) {
      try {
        io_.run();
        return;
      } catch (const std::exception& error) {  // of a callback of a handler
        log_error("{}", error.what());
      }
    }
  }

  asio::awaitable<void> accept() {
    while (acceptor_.is_open()) {
      tcp::socket socket(asio::make_strand(io_));
      boost::system::error_code error;
      co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
      if (!acceptor_.is_open()) break;
      if (!error) {
        try_to_admit(std::move(socket));
      } else if (error != asio::error::connection_aborted) {
        pause_.expires_after(kAcceptPause);
        co_await pause_.async_wait(asio::redirect_error(asio::use_awaitable, error));
      }
    }
  }

  void try_to_admit(tcp::socket socket) {
    try {
      admit(std::move(socket));
    } catch (const std::exception& error) {  // such as lack of memory: this connection is closed
      log_error("cannot serve a connection: {}", error.what());
    }
  }

  /// Whether the client has too many connections already.
  bool has_too_many(const std::string& client) const {
    if (is_loopback(client) && !context_.limits.limits_loopback) return false;
    const auto of_client = [&](const auto& one) { return one->client() == client; };
    return std::ranges::count_if(connections_, of_client) >=
           static_cast<std::ptrdiff_t>(context_.limits.connections_per_address);
  }

  /// Runs on the executor of the acceptor, like everything that uses `connections_`.
  void admit(tcp::socket socket) {
    const HttpLimits& limits = context_.limits;
    const auto connection = std::make_shared<HttpConnection>(std::move(socket), context_);
    const bool is_admitted =
        connection_count_ < limits.connections && !has_too_many(connection->client());
    if (!is_admitted && connections_.size() >= limits.connections + kMostRefused) return;
    connections_.insert(connection);
    connection_count_ += is_admitted ? 1 : 0;
    try {
      asio::co_spawn(
          connection->executor(),
          [connection, is_admitted] {
            return is_admitted ? connection->serve() : connection->refuse();
          },
          [this, connection, is_admitted](std::exception_ptr) {
            asio::post(acceptor_.get_executor(), [this, connection, is_admitted] {
              connections_.erase(connection);
              connection_count_ -= is_admitted ? 1 : 0;
            });
          });
    } catch (...) {
      connections_.erase(connection);
      connection_count_ -= is_admitted ? 1 : 0;
      throw;
    }
  }

  asio::io_context io_{kServerThreads};
  asio::executor_work_guard<asio::io_context::executor_type> work_ = asio::make_work_guard(io_);
  tcp::acceptor acceptor_{asio::make_strand(io_)};
  asio::steady_timer pause_{acceptor_.get_executor()};
  ConnectionContext context_;
  std::set<std::shared_ptr<HttpConnection>> connections_;  // also those being refused
  size_t connection_count_ = 0;                            // without them
  uint16_t port_ = 0;
  std::array<std::thread, kServerThreads> threads_;
};

HttpServer::HttpServer(const Options& options, HttpHandler handler, HttpRefusal refusal)
    : implementation_(
          std::make_unique<Implementation>(options, std::move(handler), std::move(refusal))) {}

HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const {
  return implementation_->port();
}

void HttpServer::stop(std::chrono::milliseconds grace) {
  implementation_->stop(grace);
}

}  // namespace dalle
