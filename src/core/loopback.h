#pragma once

#include "core/ascii.h"

namespace dalle {

/// Whether a name or a numeric address always means the machine itself: localhost, 127.x.y.z or
/// ::1.
inline bool is_loopback(std::string_view host) {
  return lower_case(host) == "localhost" || host == "::1" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos);
}

}  // namespace dalle
