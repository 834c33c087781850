#include "core/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace dalle {
namespace {

/// The value of the first line that reads "NAME\t: VALUE"; empty if there is none.
std::string_view value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (const size_t colon = line.find(": "); line.starts_with(name) && colon != line.npos)
      return line.substr(colon + 2);
  }
  return {};
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The CPU quota of one control group, in CPUs; infinity if it has none.
double quota_of(const std::filesystem::path& group) {
  // Version 2 has "max 100000" or "150000 100000"; version 1 has two files, with -1 for no quota.
  std::string text = read_text(group / "cpu.max");
  if (text.empty())
    text = read_text(group / "cpu.cfs_quota_us") + ' ' + read_text(group / "cpu.cfs_period_us");
  std::istringstream numbers(text);
  double quota = 0, period = 0;
  if (numbers >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::numeric_limits<double>::infinity();
}

int64_t cpus_in_affinity_mask() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
  return std::thread::hardware_concurrency();  // more CPUs than cpu_set_t holds
}

}  // namespace

double cpu_quota(std::string_view membership, const std::filesystem::path& mount) {
  double quota = std::numeric_limits<double>::infinity();
  std::istringstream lines{std::string(membership)};
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/a/b", or "0::/a/b"
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool has_cpu =
        controllers.empty() || (',' + controllers + ',').find(",cpu,") != std::string::npos;
    if (!has_cpu) continue;
    // In a container the path may be the one on the host, while the mount is the container's group.
    const std::filesystem::path root = controllers.empty() ? mount : mount / controllers;
    quota = std::min(quota, quota_of(root));
    std::filesystem::path group = root;
    for (const auto& part : std::filesystem::path(line.substr(second + 1)).relative_path())
      quota = std::min(quota, quota_of(group /= part));
  }
  return quota;
}

int64_t usable_cpus() {
  const double quota = std::ceil(cpu_quota(read_text("/proc/self/cgroup"), "/sys/fs/cgroup"));
  const auto affinity = static_cast<double>(cpus_in_affinity_mask());
  return std::max<int64_t>(1, static_cast<int64_t>(std::min(quota, affinity)));
}

std::string cpus_of_thread() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string text = host.data();
  cpu_set_t mask;
  if (usable_cpus() == cpus_in_affinity_mask() && sched_getaffinity(0, sizeof mask, &mask) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &mask)) text += ' ' + std::to_string(cpu);
  return text;
}

double cpu_wait_s() {
  // "nanoseconds running, nanoseconds waiting, number of time slices"
  std::istringstream numbers(read_text("/proc/thread-self/schedstat"));
  double running = 0, waiting = 0;
  return numbers >> running >> waiting ? 1e-9 * waiting : 0;
}

Processor parse_processor(std::string_view cpuinfo) {
  Processor processor;
  if (const auto model = value_of(cpuinfo, "model name"); !model.empty()) processor.model = model;
  std::istringstream flags{std::string(value_of(cpuinfo, "flags"))};
  for (std::string flag; flags >> flag;)
    if (flag == "avx512_bf16" || flag == "amx_bf16") processor.has_bf16_matmul = true;
  return processor;
}

Processor this_processor() {
  return parse_processor(read_text("/proc/cpuinfo"));
}

void disable_malloc_trim() {
#ifdef __GLIBC__
  // Respect the user's own settings.
  if (std::getenv("GLIBC_TUNABLES") != nullptr || std::getenv("MALLOC_TRIM_THRESHOLD_") != nullptr)
    return;
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

}  // namespace dalle
