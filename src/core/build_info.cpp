#include "core/build_info.h"

#include "core/git_revision.h"

namespace dalle {

BuildInfo build_info() {
  return {.version = DALLE_VERSION,
          .git_revision = kGitRevision,
          .compiler = DALLE_COMPILER,
          .build_type = DALLE_BUILD_TYPE,
          .libtorch = DALLE_LIBTORCH_VERSION,
          .cuda = DALLE_CUDA_VERSION};
}

}  // namespace dalle
