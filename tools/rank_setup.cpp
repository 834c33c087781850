#include "rank_setup.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "command_line.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "dist/local_launcher.h"

namespace dalle {
namespace {

/// Whether this process was started from an interactive shell with job control.
bool is_started_at_a_terminal() {
  return ::isatty(STDIN_FILENO) != 0 && ::getpgrp() != ::getsid(0);
}

}  // namespace

RankInfo find_ranks(int64_t ranks_here) {
  RankInfo info = rank_info();
  if (info.launcher != "Slurm" || info.alone() || !is_started_at_a_terminal()) return info;
  if (ranks_here == 1)
    log_warning(
        "this shell is task {} of {} of an interactive Slurm step; training on one rank. For one "
        "rank per task, start dalle-train with srun (inside a step: srun --overlap), or use "
        "--ranks",
        info.rank, info.world_size);
  return {};
}

c10::Device device_of(const RankInfo& info, const std::string& name) {
  const c10::Device device = find_device(name);
  if (device.is_cpu() || info.local_world_size == 1) return device;
  if (name != "auto" && name != "cuda")
    throw Error("--device {}: {} ranks on this machine need one GPU each; use --device cuda", name,
                info.local_world_size);
  const auto gpus = static_cast<int64_t>(at::getNumGPUs());
  // With srun --gpus-per-task=1 each rank sees only its own GPU, as the first one.
  if (gpus == 1 && info.launcher == "Slurm" && environment_variable("SLURM_GPUS_PER_TASK"))
    return device;
  if (info.local_world_size > gpus)
    throw Error("--device {}: {} ranks on this machine need one GPU each, found {}", name,
                info.local_world_size, gpus);
  return find_device(fmt::format("cuda:{}", info.local_rank));
}

void limit_threads_per_rank(const RankInfo& info, bool exact) {
  if (environment_variable("OMP_NUM_THREADS")) return;
  const int64_t threads = exact ? 1 : at::get_num_threads() / info.local_world_size;
  if (threads < at::get_num_threads())
    at::set_num_threads(static_cast<int>(std::max<int64_t>(1, threads)));
}

void enable_deterministic_algorithms() {
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
}

void set_current_device(c10::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
}

std::optional<std::string> text_of_pipe(const std::string& path) {
  std::error_code ignored;  // reported when the file is read
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (!exists(status) || is_regular_file(status) || is_directory(status)) return std::nullopt;
  return read_file(path);
}

int start_ranks(int64_t ranks, const std::string& config, const std::optional<std::string>& piped,
                char** argv) {
  if (!piped) return launch_local_ranks(ranks, argv);
  const int descriptor = ::memfd_create("config.yaml", 0);  // the ranks inherit it
  const std::string path = fmt::format("/proc/self/fd/{}", descriptor);
  std::ofstream file(path);
  if (descriptor < 0 || !(file << *piped << std::flush))
    throw Error("--config {}: {} ranks cannot read the same pipe; use a file", config, ranks);
  std::vector<std::string> words;
  for (; *argv != nullptr; ++argv) {
    const bool is_value = !words.empty() && words.back() == "--config";
    words.emplace_back(is_value ? path : *argv);
    if (words.back() == "--config=" + config) words.back() = "--config=" + path;
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return launch_local_ranks(ranks, pointers.data());
}

}  // namespace dalle
