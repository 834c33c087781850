#pragma once

#include <cstdint>
#include <filesystem>
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

/// The number of CPUs that this process may keep busy: those of its affinity mask or, if that is
/// less, the CPU quota of its control group and of every group above it (versions 1 and 2), rounded
/// up. At least 1. A container has more CPUs than its quota lets it use; threads beyond the quota
/// only make each other wait.
int64_t usable_cpus();

/// The quota part of usable_cpus(): the smallest quota, in CPUs, of the groups that a process is
/// in.
///
/// @param membership  the text of Linux's /proc/self/cgroup
/// @param mount       where control groups are mounted, /sys/fs/cgroup on Linux
/// @return            infinity where no group has a quota
double cpu_quota(std::string_view membership, const std::filesystem::path& mount);

/// Lets the C library keep freed memory for the next allocation. As it comes, glibc gives every
/// large tensor back to the system and gets fresh pages for the next one, at each operation.
/// Call at the start of main; does nothing on other C libraries.
void keep_freed_memory();

}  // namespace dalle
