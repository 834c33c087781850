#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dalle {

/// `value`, with the gradient of `source`: the straight-through estimator. The value is bitwise
/// exact, because what is added to it is x - x.
///
/// @param value, source  finite, of the same shape and type
/// Source: Bengio et al. 2013
at::Tensor straight_through(const at::Tensor& value, const at::Tensor& source);

/// Negative squared Euclidean distances, up to a term that is the same for all codes of a vector:
/// 2 x e - |e|^2. With gradient.
///
/// @param vectors   [..., D]
/// @param codebook  [D, K]
/// @return          [..., K]
at::Tensor distance_logits(const at::Tensor& vectors, const at::Tensor& codebook);

/// The index of the code with the smallest Euclidean distance to each vector, the first if several
/// are equally near. Without gradient, in the type of the arguments. The distances of at most 4
/// million pairs exist at a time.
///
/// @param vectors   [N, D]
/// @param codebook  [D, K]
/// @return          [N] int64 in [0, K)
at::Tensor nearest_codes(const at::Tensor& vectors, const at::Tensor& codebook);

/// What a codebook learns from vectors and their codes: how many vectors each code has (column 0),
/// and their sum (the other columns). Sums over parts of a batch add up to that of the batch.
///
/// @param vectors  [N, D]
/// @param codes    [N] int64 in [0, K)
/// @return         [K, 1 + D]
at::Tensor code_sums(const at::Tensor& vectors, const at::Tensor& codes, int64_t vocab_size);

/// Updates the averages in place: average = decay * average + (1 - decay) * sums.
///
/// @param average  [K, 1 + D]
/// @param sums     [K, 1 + D] code_sums() of a global batch
/// @return         [K, D] the updated codebook: each code is the mean of its vectors,
///                 sum / smoothed count, where smoothed = (count + epsilon) / (n + K epsilon) * n
///                 and n is the sum of the counts
/// Source: van den Oord et al. 2017, appendix A.1; the smoothing is that of Sonnet's
/// VectorQuantizerEMA
at::Tensor update_code_averages(const at::Tensor& average, const at::Tensor& sums, double decay,
                                double epsilon);

}  // namespace dalle
