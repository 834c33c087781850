#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// The processor, as far as training depends on it.
struct Processor {
  std::string model = "unknown";
  bool multiplies_bfloat16 = false;  ///< in hardware: AVX512-BF16 or AMX. Without, LibTorch's
                                     ///< bfloat16 matrix products are some hundred times slower
                                     ///< than float32
};

/// @param cpuinfo  the text of Linux's /proc/cpuinfo
Processor parse_processor(std::string_view cpuinfo);

/// This machine's; the default where the system does not say.
Processor this_processor();

/// Lets the C library keep freed memory for the next allocation. As it comes, glibc gives every
/// large tensor back to the system and gets fresh pages for the next one, at each operation.
/// Call at the start of main; does nothing on other C libraries.
void keep_freed_memory();

}  // namespace dalle
