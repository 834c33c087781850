#pragma once

#include <string_view>

namespace dalle {

/// What this program was built from and with.
struct BuildInfo {
  std::string_view version;       ///< of dalle
  std::string_view git_revision;  ///< 40 hexadecimal digits, "-dirty" behind them if tracked files
                                  ///< had changes; "unknown" outside a git work tree
  std::string_view compiler;      ///< "GNU 12.2.0"
  std::string_view build_type;    ///< "Release"
  std::string_view libtorch;      ///< the version built against
  std::string_view cuda;          ///< the toolkit's version; empty in a CPU build
};

BuildInfo build_info();

}  // namespace dalle
