#pragma once

#include <string>

namespace dalle {

/// Why a name does not resolve to an address; empty if it does.
std::string why_unresolved(const std::string& host);

/// The numeric address of this machine from which packets to `host` leave, which is that of the
/// network interface that reaches it; IPv4 if the host has an IPv4 address. Empty if there is no
/// route. Sends nothing.
std::string address_towards(const std::string& host);

}  // namespace dalle
