#pragma once

#include <string>

#include <c10/core/Device.h>

namespace dalle {

/// Sets LibTorch up, for the whole process, to compute what every program of this project computes:
///
/// - as many threads as the process has CPUs, if there are more and OMP_NUM_THREADS is not set,
///   because the OpenMP runtime respects the affinity mask but not a container's CPU quota;
/// - without TF32: the precision float32 means all of its bits, also in convolutions on GPUs.
///
/// It can be repeated.
void set_up_torch();

/// Silences LibTorch's log: when a rank dies, it warns with backtraces of exceptions that this
/// project reports in one line. The variable TORCH_CPP_LOG_LEVEL restores it.
void silence_torch_log();

/// The device named auto (a GPU if there is one), cpu, cuda or cuda:N.
/// @throws dalle::Error if the name is invalid or there is no such device
c10::Device find_device(const std::string& name);

}  // namespace dalle
