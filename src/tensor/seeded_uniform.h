#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Returns uniform random numbers, one row per sample: row i is a pure function of seeds[i] and
/// does not depend on the rest of the batch, the number of threads or the device.
///
/// Numbers 2j and 2j + 1 of a row are the low and the high half of the j-th number of
/// SeedStream(seed), 31 bits each. They lie strictly between 0 and 1, so that the logarithms of
/// both u and 1 - u are finite, and small numbers keep full float precision.
///
/// Runs a plain loop on the CPU (0.5 ns per number) and seeded_uniform_by_tensor_operations() on
/// other devices.
///
/// @return  [seeds, count] float32 in (0, 1)
at::Tensor seeded_uniform(std::span<const uint64_t> seeds, int64_t count,
                          at::Device device = at::kCPU);

/// Computes the same numbers by integer operations on tensors, on any device.
at::Tensor seeded_uniform_by_tensor_operations(std::span<const uint64_t> seeds, int64_t count,
                                               at::Device device = at::kCPU);

}  // namespace dalle
