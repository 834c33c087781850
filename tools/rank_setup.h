#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "dist/rank_info.h"

namespace dalle {

/// The ranks according to the launcher. A shell opened by srun --pty is a task of its Slurm step,
/// but a command typed there is not one of that many ranks.
RankInfo find_ranks(int64_t ranks_here);

/// The device of this rank: "cuda" and "auto" give each rank of a machine its own GPU.
c10::Device device_of(const RankInfo& info, const std::string& name);

/// Divides the cores among the ranks of a machine, unless OMP_NUM_THREADS is set. Exact training
/// uses one thread, because the division of work among threads affects rounding.
void limit_threads_per_rank(const RankInfo& info, bool exact);

/// Makes sums on a GPU independent of the order in which its threads run.
void enable_deterministic_algorithms();

/// Makes a GPU this thread's current device. Otherwise each rank would create a context on the
/// first GPU, which takes memory there.
void set_current_device(c10::Device device);

/// The content of `path` if it can be read only once, like a pipe; nothing for a file.
std::optional<std::string> text_of_pipe(const std::string& path);

/// Starts `ranks` ranks with the arguments of main, and waits for them. A config from a pipe is
/// passed to them in a file in memory.
/// @param config  the value of --config
/// @param piped   from text_of_pipe()
/// @return        the exit status
int start_ranks(int64_t ranks, const std::string& config, const std::optional<std::string>& piped,
                char** argv);

}  // namespace dalle
