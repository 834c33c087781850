#pragma once

#include <string>

#include <c10/core/Device.h>

namespace dalle {

/// Configures LibTorch, for the whole process, the way all programs of this project use it:
///
/// - at most as many threads as the process has CPUs, unless OMP_NUM_THREADS is set, because the
///   OpenMP runtime respects the affinity mask but not a container's CPU quota;
/// - no TF32, so that float32 has its full precision, also in convolutions on GPUs.
///
/// Calling it again has no further effect.
void set_up_torch();

/// Silences LibTorch's log: when a rank dies, it warns with backtraces of exceptions that this
/// project reports in one line. The variable TORCH_CPP_LOG_LEVEL restores it.
void silence_torch_log();

/// The device named auto (a GPU if there is one), cpu, cuda or cuda:N.
/// @throws dalle::Error if the name is invalid or there is no such device
c10::Device find_device(const std::string& name);

}  // namespace dalle
