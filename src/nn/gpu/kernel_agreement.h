#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/util/accumulate.h>
#include <torch/types.h>

#include "tensor/seeded_uniform.h"

namespace dalle {

/// [sizes] float32, uniform in [-2, 2).
inline at::Tensor random_numbers(const std::vector<int64_t>& sizes, uint64_t seed,
                                 at::Device device) {
  const std::array seeds{seed};
  return seeded_uniform(seeds, c10::multiply_integers(sizes), device).view(sizes).sub_(0.5).mul_(4);
}

/// Whether results computed in bfloat16 could be the expected ones: no row differs by more than 3 %
/// of its norm or of the root mean square of its neighbors' norms. Rounding alone makes up to 1.4 %
/// in the gradients of attention.
///
/// @param found, expected  [..., rows, ..., columns]; dimension 1 has the neighbors if there are
///                         more than two
inline bool rows_are_close(const at::Tensor& found, const at::Tensor& expected) {
  constexpr double kTolerance = 0.03;
  const auto norms = expected.norm(2, -1);
  const auto typical = norms.square().mean(norms.dim() > 1 ? 1 : 0, /*keepdim=*/true).sqrt();
  const auto errors = (found.to(expected.scalar_type()) - expected).norm(2, -1);
  return (errors <= kTolerance * norms.maximum(typical)).all().item<bool>();  // false for NaN
}

}  // namespace dalle
