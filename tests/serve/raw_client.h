#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "core/ascii.h"

namespace dalle {

/// A response as it arrived.
struct RawResponse {
  int status = 0;  ///< 0: the connection was closed, or the response incomplete
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;                            ///< without the framing of chunks
};

/// A socket that sends exactly what a test says. Nothing waits for more than ten seconds.
class RawClient {
 public:
  /// @param receive_bytes  size of the kernel's buffer; 0: the usual one
  explicit RawClient(uint16_t port, int receive_bytes = 0)
      : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (receive_bytes > 0)
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_connected_ =
        ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool is_connected() const { return is_connected_; }

  /// @return  whether the server's machine took everything
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  /// Whether something has arrived, or the connection is closed.
  bool is_readable() const {
    pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
    return !received_.empty() || ::poll(&waiting, 1, 0) > 0;
  }

  void end_sending() { ::shutdown(socket_, SHUT_WR); }

  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  /// Everything until the server closes the connection.
  std::string receive_all() {
    while (receive_more()) {
    }
    return std::exchange(received_, "");
  }

  /// What arrives next, at least one byte; empty if the connection is closed.
  std::string receive_some() {
    if (received_.empty()) receive_more();
    return std::exchange(received_, "");
  }

  /// The next response.
  /// @param has_body  false: to a HEAD request
  RawResponse receive(bool has_body = true) {
    RawResponse response;
    const std::string head = take_until("\r\n\r\n");
    if (!head.starts_with("HTTP/1.1 ")) return response;
    for (size_t at = head.find("\r\n"); at + 2 < head.size();) {
      const size_t end = std::min(head.find("\r\n", at + 2), head.size());
      const std::string line = head.substr(at + 2, end - at - 2);
      const size_t colon = std::min(line.find(':'), line.size());
      response.headers[lower_case(line.substr(0, colon))] =
          trimmed(std::string_view(line).substr(std::min(colon + 1, line.size())));
      at = end;
    }
    const int status = std::atoi(head.c_str() + 9);
    if (!has_body || status == 204) {
      response.status = status;
    } else if (response.headers.contains("content-length")) {
      const auto size = static_cast<size_t>(std::atoll(response.headers["content-length"].c_str()));
      response.body = take(size);
      if (response.body.size() == size) response.status = status;
    } else if (response.headers.contains("transfer-encoding")) {
      if (take_chunks(response.body)) response.status = status;
    } else {
      response.body = receive_all();
      response.status = status;
    }
    return response;
  }

  /// Sends a request and receives the response.
  RawResponse ask(std::string_view request) {
    send(request);
    return receive();
  }

 private:
  bool receive_more() {
    char bytes[65536];
    const ssize_t size = ::recv(socket_, bytes, sizeof bytes, 0);
    if (size > 0) received_.append(bytes, static_cast<size_t>(size));
    return size > 0;
  }

  std::string take(size_t size) {
    while (received_.size() < size && receive_more()) {
    }
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }

  std::string take_until(std::string_view end) {
    size_t at = 0;
    while ((at = received_.find(end)) == std::string::npos)
      if (!receive_more()) return "";
    std::string taken = take(at);
    take(end.size());
    return taken;
  }

  bool take_chunks(std::string& body) {
    for (;;) {
      const std::string line = take_until("\r\n");
      if (line.empty()) return false;
      const size_t size = std::strtoul(line.c_str(), nullptr, 16);
      const std::string chunk = take(size);
      if (chunk.size() < size || take(2) != "\r\n") return false;
      if (size == 0) return true;
      body += chunk;
    }
  }

  int socket_;
  bool is_connected_ = false;
  std::string received_;
};

}  // namespace dalle
