#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace dalle {

/// Whether the candidate at `index` is more similar to the query than every candidate that is not
/// in `as_good`. False if any similarity is NaN.
///
/// @param similarity  [N] of one query
/// @param as_good     [N] bool: candidates that count as equally correct, with the one at `index`
bool is_most_similar(const at::Tensor& similarity, int64_t index, const at::Tensor& as_good);

/// The numbers of candidates among which a model should find a partner.
inline constexpr std::array<int64_t, 3> kRetrievedAt = {1, 5, 10};

/// For each such number k, the share of images of which at least one of the k most similar captions
/// is a partner, and the reverse: image_to_text_at_1, _5, _10, text_to_image_at_1, ... A candidate
/// that is not a partner and as similar as the best one ranks before it, so a model that considers
/// everything equally similar, or whose similarities are NaN, finds nothing.
///
/// @param similarity  [N, N] of image i (row) and caption j
/// @param labels      [N] int64; image i and caption j are partners if their labels are equal
std::vector<std::pair<std::string, double>> retrieval_shares(const at::Tensor& similarity,
                                                             const at::Tensor& labels);

}  // namespace dalle
