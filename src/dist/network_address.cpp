#include "dist/network_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace dalle {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

/// Also returns getaddrinfo's status.
std::pair<Addresses, int> resolve(const std::string& host, int family) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), "9", &hints, &found);  // any port
  return {Addresses(found, ::freeaddrinfo), status};
}

/// The local address of a datagram socket connected to `remote`; empty if there is no route.
std::string local_end(const addrinfo& remote) {
  const int number = ::socket(remote.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (number < 0) return "";
  sockaddr_storage local{};
  socklen_t size = sizeof local;
  auto* generic = reinterpret_cast<sockaddr*>(&local);
  char digits[NI_MAXHOST] = "";
  if (::connect(number, remote.ai_addr, remote.ai_addrlen) == 0 &&
      ::getsockname(number, generic, &size) == 0)
    ::getnameinfo(generic, size, digits, sizeof digits, nullptr, 0, NI_NUMERICHOST);
  ::close(number);
  return digits;
}

}  // namespace

std::string why_unresolved(const std::string& host) {
  const int status = resolve(host, AF_UNSPEC).second;
  if (status == 0) return "";
  return status == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(status);
}

std::string address_towards(const std::string& host) {
  for (const int family : {AF_INET, AF_INET6}) {
    const Addresses addresses = resolve(host, family).first;
    for (const addrinfo* remote = addresses.get(); remote != nullptr; remote = remote->ai_next)
      if (std::string local = local_end(*remote); !local.empty()) return local;
  }
  return "";
}

}  // namespace dalle
