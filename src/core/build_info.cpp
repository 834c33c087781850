#include "core/build_info.h"

#include <fmt/format.h>

namespace dalle {

/// Defined in a generated source (cmake/GitRevision.cmake), so that a new commit recompiles only
/// that file.
extern const char* const kGitRevision;

BuildInfo build_info() {
  return {.version = DALLE_VERSION,
          .git_revision = kGitRevision,
          .compiler = DALLE_COMPILER,
          .build_type = DALLE_BUILD_TYPE,
          .libtorch = DALLE_LIBTORCH_VERSION,
          .cuda = DALLE_CUDA_VERSION};
}

std::string build_line() {
  const BuildInfo build = build_info();
  return fmt::format("dalle {} ({}), LibTorch {}{}", build.version,
                     build.git_revision.substr(0, 12), build.libtorch,
                     build.cuda.empty() ? "" : fmt::format(", CUDA {}", build.cuda));
}

}  // namespace dalle
