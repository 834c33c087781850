#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace dalle {

/// The properties of the processor that training depends on.
struct Processor {
  std::string model = "unknown";
  /// In hardware: AVX512-BF16 or AMX. Without it, bfloat16 matrix products in LibTorch are about a
  /// hundred times slower than float32 ones.
  bool has_bf16_matmul = false;
};

/// @param cpuinfo  the text of Linux's /proc/cpuinfo
Processor parse_processor(std::string_view cpuinfo);

/// Returns this machine's processor, with default values where the system does not provide them.
Processor this_processor();

/// Returns the number of CPUs that this process may use: the size of its affinity mask or, if that
/// is less, the CPU quota of its control group and all groups above it (cgroups v1 and v2), rounded
/// up; at least 1. A container sees all CPUs of its host, but threads beyond its quota only slow
/// each other down.
int64_t usable_cpus();

/// Returns the calling thread's CPUs as a text that is equal for threads that share them: the
/// machine's name and, unless a quota is what limits them, the affinity mask.
std::string cpus_of_thread();

/// Returns how long the calling thread has been ready to run but had to wait for a CPU since it
/// started, in seconds; 0 where the system does not say.
double cpu_wait_s();

/// Returns the smallest CPU quota of the control groups that a process belongs to, in CPUs.
///
/// @param membership  the text of Linux's /proc/self/cgroup
/// @param mount       mount point of the control groups, /sys/fs/cgroup on Linux
/// @return            infinity if no group has a quota
double cpu_quota(std::string_view membership, const std::filesystem::path& mount);

/// Makes glibc keep freed memory for later allocations. By default it returns the memory of every
/// large tensor to the system and maps fresh pages for the next one, in each operation. Call at the
/// start of main. Has no effect with other C libraries.
void disable_malloc_trim();

}  // namespace dalle
