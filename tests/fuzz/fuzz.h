#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.h"

namespace dalle {

/// Calls `parse`, which may refuse its input by a dalle::Error. Everything else that it throws, as
/// a failed DALLE_CHECK does, goes through and is a finding.
/// @return whether the input was accepted
template <class Parse>
bool accepts(Parse&& parse) {
  try {
    parse();
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// A file in memory for parsers that read files: the same one, with new content each time.
inline std::filesystem::path file_in_memory(std::string_view content) {
  static const int file = memfd_create("fuzz", 0);
  DALLE_CHECK(file >= 0 && ftruncate(file, 0) == 0 &&
              pwrite(file, content.data(), content.size(), 0) ==
                  static_cast<ssize_t>(content.size()));
  return "/proc/self/fd/" + std::to_string(file);
}

/// What one target does with an input; each target's file defines it.
void fuzz(std::string_view input);

}  // namespace dalle

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dalle::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
