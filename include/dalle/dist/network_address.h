#pragma once

#include <string>

namespace dalle {

/// Whether a name or a numeric address means the machine itself: localhost, 127.x.y.z or ::1.
bool is_loopback(const std::string& host);

/// Why the system finds no address for a name; empty if it finds one.
std::string why_unresolved(const std::string& host);

/// The address of this machine, in digits, from which packets to `host` leave: that of the network
/// interface that reaches it. IPv4 where the host has such an address. Empty if there is no route
/// to it. Sends nothing.
std::string address_towards(const std::string& host);

}  // namespace dalle
