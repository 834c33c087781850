#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Uniform random numbers that belong to samples: row i is a pure function of seeds[i], whatever
/// the batch around it, the number of threads and the device.
///
/// Numbers 2j and 2j + 1 of a row are the low and the high half of the j-th number of a
/// SeedStream(seed), 31 bits each. They lie in (0, 1): never 0 and never 1, so that logarithms of
/// both u and 1 - u are finite, and small ones keep their full float precision.
///
/// On the CPU a plain loop (0.5 ns a number), elsewhere seeded_uniform_by_tensor_operations().
///
/// @return  [seeds, count] float32 in (0, 1)
at::Tensor seeded_uniform(std::span<const uint64_t> seeds, int64_t count,
                          at::Device device = at::kCPU);

/// The same numbers from integer operations on tensors, for any device.
at::Tensor seeded_uniform_by_tensor_operations(std::span<const uint64_t> seeds, int64_t count,
                                               at::Device device = at::kCPU);

}  // namespace dalle
