#pragma once

#include <chrono>
#include <cstddef>

namespace dalle {

/// What a server allows its clients.
struct HttpLimits {
  size_t header_bytes = 16 << 10;  ///< of the request line and all header fields
  size_t header_fields = 100;
  size_t body_bytes = 64 << 20;
  /// Total of all requests that are being received or have not been destroyed.
  size_t all_bodies_bytes = 512 << 20;
  size_t small_body_bytes = 1 << 20;  ///< a body of this size is received in any case
  size_t connections = 256;
  size_t connections_per_address = 128;
  bool limits_loopback = false;  ///< the same for this machine, where a proxy may be
  /// How long a client may neither send nor read what it is sent.
  std::chrono::milliseconds idle = std::chrono::seconds(30);
  /// The lowest rate at which a client may read what it is sent, apart from `idle`.
  size_t bytes_per_second = 16 << 10;
  /// How long a request may take to arrive, from its first byte.
  std::chrono::milliseconds request = std::chrono::seconds(60);
  /// How much of a stream may wait for a slow client. With more, the connection is closed.
  size_t unsent_bytes = 64 << 20;
};

}  // namespace dalle
