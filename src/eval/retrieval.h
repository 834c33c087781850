#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dalle {

/// For each k, the share of queries of which at least one of the k most similar candidates is a
/// partner. A candidate that is no partner and as similar as the best partner comes before it, so a
/// model that considers everything equal, or whose similarities are not numbers, finds nothing.
///
/// @param similarity  [N, N] of query i (row) and candidate j
/// @param labels      [N] int64; query i and candidate j are partners if their labels are equal
std::vector<double> retrieved_at(const at::Tensor& similarity, const at::Tensor& labels,
                                 std::span<const int64_t> ks);

}  // namespace dalle
