#include "core/machine.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "core/files.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

TEST(Processor, IsParsedFromCpuinfo) {
  const Processor processor = parse_processor(
      "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx2 avx512_bf16 fma\n"
      "processor\t: 1\nmodel name\t: Another\nflags\t\t: fpu\n");
  EXPECT_EQ(processor.model, "Some CPU @ 2.0GHz");
  EXPECT_TRUE(processor.has_bf16_matmul);
}

TEST(Processor, HasNoBf16MatmulWithoutTheInstructions) {
  EXPECT_FALSE(parse_processor("flags\t\t: avx2 avx512f amx_tile\n").has_bf16_matmul);
  EXPECT_TRUE(parse_processor("flags\t\t: amx_bf16 amx_tile\n").has_bf16_matmul);
  EXPECT_FALSE(parse_processor("flags\t\t: not_avx512_bf16x\n").has_bf16_matmul);
}

TEST(Processor, IsUnknownIfCpuinfoLacksIt) {
  EXPECT_EQ(parse_processor("").model, "unknown");
  EXPECT_EQ(parse_processor("no colon here").model, "unknown");
}

TEST(Processor, ThisMachineHasAOneLineName) {
  EXPECT_FALSE(this_processor().model.empty());
  EXPECT_EQ(this_processor().model.find('\n'), std::string::npos);
}

TEST(CpuQuota, IsTheSmallestOfAllGroupsAboveTheProcess) {
  const TemporaryDirectory mount;
  make_directories(mount.path() / "a/b");
  write_file_atomically(mount.path() / "a/cpu.max", "150000 100000\n");
  write_file_atomically(mount.path() / "a/b/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota("0::/a/b\n", mount.path()), 1.5);
  write_file_atomically(mount.path() / "a/b/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota("0::/a/b\n", mount.path()), 0.5);
}

TEST(CpuQuota, InAContainerIsThatOfTheMount) {
  const TemporaryDirectory mount;
  write_file_atomically(mount.path() / "cpu.max", "300000 100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota("0::/the/path/on/the/host\n", mount.path()), 3);
}

TEST(CpuQuota, OfVersionOneComesFromTheCpuController) {
  const TemporaryDirectory mount;
  const auto group = mount.path() / "cpu,cpuacct/job";
  make_directories(group);
  write_file_atomically(group / "cpu.cfs_quota_us", "200000\n");
  write_file_atomically(group / "cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota("5:memory:/job\n4:cpu,cpuacct:/job\n", mount.path()), 2);
  write_file_atomically(group / "cpu.cfs_quota_us", "-1\n");
  EXPECT_TRUE(std::isinf(cpu_quota("4:cpu,cpuacct:/job\n", mount.path())));
}

TEST(CpuQuota, IsInfiniteWithoutALimit) {
  const TemporaryDirectory mount;
  EXPECT_TRUE(std::isinf(cpu_quota("", mount.path())));
  EXPECT_TRUE(std::isinf(cpu_quota("0::/a\n", mount.path())));
  EXPECT_TRUE(std::isinf(cpu_quota("not a line of that file", mount.path())));
}

TEST(UsableCpus, AreAtMostThoseOfTheAffinityMask) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(usable_cpus(), 1);
  EXPECT_LE(usable_cpus(), CPU_COUNT(&before));
  const std::string cpus_of_all = cpus_of_thread();
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus(), 1);
  EXPECT_EQ(cpus_of_thread() == cpus_of_all, CPU_COUNT(&before) == 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(CpuWait, GrowsWhileAnotherThreadHasTheCpu) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // the next thread inherits it
  std::atomic<bool> done = false;
  std::thread other([&] {
    while (!done) continue;
  });
  const double begin = cpu_wait_s();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (cpu_wait_s() == begin && std::chrono::steady_clock::now() < deadline) continue;
  EXPECT_GT(cpu_wait_s(), begin);
  done = true;
  other.join();
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace dalle
