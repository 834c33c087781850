#include "dalle/core/build_info.h"

#include <fstream>

#include "git_revision.h"

namespace dalle {

BuildInfo build_info() {
  return {.version = DALLE_VERSION,
          .git_revision = kGitRevision,
          .compiler = DALLE_COMPILER,
          .build_type = DALLE_BUILD_TYPE,
          .libtorch = DALLE_LIBTORCH_VERSION,
          .cuda = DALLE_CUDA_VERSION};
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const size_t colon = line.find(": ");
        line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  return "unknown";
}

}  // namespace dalle
