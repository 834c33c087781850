#include "dalle/core/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace dalle {
namespace {

/// What follows "NAME\t: " on the first line of that name; empty if there is none.
std::string_view value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (const size_t colon = line.find(": "); line.starts_with(name) && colon != line.npos)
      return line.substr(colon + 2);
  }
  return {};
}

}  // namespace

Processor parse_processor(std::string_view cpuinfo) {
  Processor processor;
  if (const auto model = value_of(cpuinfo, "model name"); !model.empty()) processor.model = model;
  std::istringstream flags{std::string(value_of(cpuinfo, "flags"))};
  for (std::string flag; flags >> flag;)
    if (flag == "avx512_bf16" || flag == "amx_bf16") processor.multiplies_bfloat16 = true;
  return processor;
}

Processor this_processor() {
  std::ifstream file("/proc/cpuinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_processor(text.str());
}

void keep_freed_memory() {
#ifdef __GLIBC__
  // The user's own settings win.
  if (std::getenv("GLIBC_TUNABLES") != nullptr || std::getenv("MALLOC_TRIM_THRESHOLD_") != nullptr)
    return;
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

}  // namespace dalle
