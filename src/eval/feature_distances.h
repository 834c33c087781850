#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "eval/interval.h"

namespace dalle {

// How far apart two sets of feature vectors are. Features are [N, D] floating. Functions of
// features throw dalle::Error if they are not finite.

/// The normal distribution with the mean and the covariance of a set.
struct NormalFit {
  at::Tensor mean;        ///< [D] float64
  at::Tensor covariance;  ///< [D, D] float64, unbiased; of full rank only if N > D
};

/// @param features  [N, D], N at least 2
NormalFit fit_normal(const at::Tensor& features);

/// The Fréchet distance of two normal distributions (the squared 2-Wasserstein distance):
/// |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1^1/2 S2 S1^1/2)^1/2). Between fits, it is biased
/// upwards, by more the fewer vectors there are per dimension.
/// @return  at least 0
/// Source: Dowson and Landau 1982; Heusel et al. 2017, "GANs trained by a two time-scale update
/// rule converge to a local Nash equilibrium"
double frechet_distance(const NormalFit& a, const NormalFit& b);

/// The kernel distance (KID): the squared maximum mean discrepancy under the cubic kernel
/// (x y / D + 1)^3. The complete U-statistic over pairs (x_i, y_i), which leaves out k(x_i, y_i):
/// unbiased, also if x_i depends on y_i, as two images of one caption do, so it may be below 0. The
/// interval is that of the jackknife over pairs.
/// @param x, y  [N, D] each, N at least 3
/// Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6; Binkowski et al. 2018,
/// "Demystifying MMD GANs"; Arvesen 1969, "Jackknifing U-statistics"
Interval kernel_distance(const at::Tensor& x, const at::Tensor& y);

/// How samples lie among reference vectors. The neighborhood of a vector is the open ball that
/// reaches to its k-th nearest neighbor in its own set.
struct NeighborhoodScores {
  Interval precision;  ///< share of the samples in the neighborhood of a reference
  Interval recall;     ///< share of the references in the neighborhood of a sample
  Interval density;    ///< mean number of references whose neighborhood has the sample, over k
  Interval coverage;   ///< share of the references whose neighborhood has a sample
};

/// The intervals hold for the given other set, whose selection they do not account for.
/// @param references, samples  [N, D] and [M, D], N and M above k
/// Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative
/// models"; Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models"
NeighborhoodScores neighborhood_scores(const at::Tensor& references, const at::Tensor& samples,
                                       int64_t k);

/// Euclidean distances; those of equal vectors are exactly 0.
/// @param x, y  [N, D] and [M, D]
/// @return      [N, M]
at::Tensor pair_distances(const at::Tensor& x, const at::Tensor& y);

struct NearestNeighbors {
  at::Tensor distance;  ///< [N] float64
  at::Tensor index;     ///< [N] int64
};

/// The nearest of `candidates` to each vector.
/// @param features, candidates  [N, D] and [M, D], M above 0
NearestNeighbors nearest_neighbors(const at::Tensor& features, const at::Tensor& candidates);

}  // namespace dalle
