#include "experiment/rank_setup.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "dist/agreement.h"
#include "dist/process_group.h"
#include "experiment/torch_setup.h"

namespace dalle {
namespace {

/// Whether this process was started from an interactive shell with job control.
bool is_started_at_a_terminal() {
  return ::isatty(STDIN_FILENO) != 0 && ::getpgrp() != ::getsid(0);
}

void limit_threads_per_rank(ProcessGroup& group, const RankInfo& info, bool bitwise) {
  // Machines may have the same name, so no more than the launcher says.
  const int64_t sharing = std::min(count_agreeing(group, cpus_of_thread()), info.local_world_size);
  if (environment_variable("OMP_NUM_THREADS")) return;
  const int64_t threads = bitwise ? 1 : at::get_num_threads() / sharing;
  if (threads < at::get_num_threads())
    at::set_num_threads(static_cast<int>(std::max<int64_t>(1, threads)));
}

/// Makes sums on a GPU independent of the order in which its threads run.
void enable_deterministic_algorithms() {
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  // Every element is written before it is read, so filling new tensors first would only take time.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

}  // namespace

RankInfo find_ranks(int64_t ranks_here) {
  RankInfo info = rank_info();
  if (info.launcher != "Slurm" || info.alone() || !is_started_at_a_terminal()) return info;
  if (ranks_here == 1)
    log_warning(
        "this shell is task {} of {} of an interactive Slurm step; using one rank. For one rank "
        "per "
        "task, start the program with srun (inside a step: srun --overlap), or use --ranks",
        info.rank, info.world_size);
  return {};
}

c10::Device device_of(const RankInfo& info, const std::string& name) {
  const c10::Device device = find_device(name);
  if (device.is_cpu() || info.local_world_size == 1) return device;
  if (name != "auto" && name != "cuda")
    throw Error("device {}: {} ranks on this machine need one GPU each; use \"cuda\"", name,
                info.local_world_size);
  const auto gpus = static_cast<int64_t>(at::getNumGPUs());
  // Slurm (--gpus-per-task, --ntasks-per-gpu, --gpu-bind) and wrappers of mpirun can show each rank
  // only its own GPU, as the first one.
  const auto visible = environment_variable("CUDA_VISIBLE_DEVICES");
  const bool is_bound = (visible && visible->find(',') == std::string::npos) ||
                        environment_variable("SLURM_GPUS_PER_TASK");
  if (gpus == 1 && is_bound && (info.launcher == "Slurm" || info.launcher == "Open MPI"))
    return device;
  if (info.local_world_size > gpus)
    throw Error("device {}: {} ranks on this machine need one GPU each, found {}", name,
                info.local_world_size, gpus);
  return find_device(fmt::format("cuda:{}", info.local_rank));
}

ExperimentOptions join_ranks(const ExperimentConfig& config, const RankInfo& info,
                             const std::string& device_name) {
  const c10::Device device = device_of(info, device_name);
  if (device.is_cuda()) {
    // Otherwise each rank would create a context on the first GPU, which takes memory there.
    c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
    if (config.distributed.bitwise)
      enable_deterministic_algorithms();
    else
      at::globalContext().setBenchmarkCuDNN(true);  // chooses the fastest kernel of each shape
  }
  const ProcessGroupOptions group_options{
      .backend = config.distributed.backend,
      .timeout = std::chrono::seconds(config.distributed.timeout_s)};
  ExperimentOptions options;
  options.group = std::make_shared<ProcessGroup>(info, device, group_options);
  limit_threads_per_rank(*options.group, info, config.distributed.bitwise);
  options.device = device;
  return options;
}

}  // namespace dalle
