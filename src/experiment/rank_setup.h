#pragma once

#include <cstdint>
#include <string>

#include <c10/core/Device.h>

#include "dist/rank_info.h"
#include "experiment/config/experiment_config.h"
#include "experiment/experiment.h"

namespace dalle {

/// The ranks according to the launcher. A shell opened by srun --pty is a task of its Slurm step,
/// but a command typed there is not one of that many ranks.
/// @param ranks_here  how many ranks this process will start; 1: it trains itself
RankInfo find_ranks(int64_t ranks_here);

/// The device of this rank: "cuda" and "auto" give each rank of a machine its own GPU.
/// @throws dalle::Error like find_device(), or if there are fewer GPUs than ranks here, unless
/// Slurm
///         or mpirun shows each rank a single one
c10::Device device_of(const RankInfo& info, const std::string& name);

/// Prepares this process to train as one of the ranks and connects it to the others.
///
/// Changes for the whole process: the number of threads, which is this rank's share of the CPUs
/// that it may use (one with distributed.bitwise, because the division of work among threads
/// affects rounding) unless OMP_NUM_THREADS is set; and with distributed.bitwise on a GPU,
/// deterministic kernels. Slurm and mpirun can bind each rank to CPUs of its own, which it does not
/// share.
///
/// @param device  see device_of()
/// @return        options for run_experiment() with the group and the device
/// @throws dalle::Error like device_of() and the constructor of ProcessGroup
ExperimentOptions join_ranks(const ExperimentConfig& config, const RankInfo& info,
                             const std::string& device);

}  // namespace dalle
