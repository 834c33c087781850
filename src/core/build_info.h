#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// The versions of this program and of what it was built with.
struct BuildInfo {
  std::string_view version;       ///< of dalle
  std::string_view git_revision;  ///< 40 hexadecimal digits, followed by "-dirty" if tracked files
                                  ///< had changes; "unknown" outside a git work tree
  std::string_view compiler;      ///< "GNU 12.2.0"
  std::string_view build_type;    ///< "Release"
  std::string_view libtorch;      ///< version that the program was compiled against
  std::string_view cuda;          ///< version of the toolkit; empty in a CPU build
};

BuildInfo build_info();

/// "dalle 0.2.0 (2bed9b0a1b2c), LibTorch 2.11.0": what --version says.
std::string build_line();

}  // namespace dalle
