#include "eval/feature_distances.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/tensor_checks.h"

namespace dalle {
namespace {

constexpr int64_t kRows = 1024;  ///< at once, of matrices of pairs

void check_finite(const at::Tensor& features) {
  if (!features.isfinite().all().item<bool>())
    throw Error("features: found values that are not finite in {}", describe_tensor(features));
}

at::Tensor cubic_kernel(const at::Tensor& x, const at::Tensor& y) {
  return (x.mm(y.t()) / static_cast<double>(x.size(1)) + 1).pow(3);
}

/// The distance of each vector to its k-th nearest neighbor among the others: [N].
at::Tensor neighborhood_radii(const at::Tensor& features, int64_t k) {
  std::vector<at::Tensor> radii;
  for (const at::Tensor& rows : features.split(kRows))  // the vector itself is the nearest
    radii.push_back(std::get<0>(pair_distances(rows, features).kthvalue(k + 1, 1)));
  return at::cat(radii);
}

}  // namespace

at::Tensor pair_distances(const at::Tensor& x, const at::Tensor& y) {
  // A matrix product would be faster, but equal vectors would not have distance 0.
  constexpr int64_t kWithoutMatrixProduct = 2;
  return at::cdist(x, y, /*p=*/2, kWithoutMatrixProduct);
}

NormalFit fit_normal(const at::Tensor& features) {
  check_finite(features);
  const auto x = features.to(at::kCPU, at::kDouble);
  return {.mean = x.mean(0), .covariance = x.t().cov()};
}

double frechet_distance(const NormalFit& a, const NormalFit& b) {
  // Rounding makes some eigenvalues of singular matrices negative.
  const auto [values, vectors] = at::linalg_eigh(a.covariance);
  const auto root = (vectors * values.clamp_min(0).sqrt()).mm(vectors.t());
  const auto spectrum = at::linalg_eigvalsh(root.mm(b.covariance).mm(root));
  const auto distance = (a.mean - b.mean).square().sum() + a.covariance.trace() +
                        b.covariance.trace() - 2 * spectrum.clamp_min(0).sqrt().sum();
  return std::max(0.0, distance.item<double>());
}

Interval kernel_distance(const at::Tensor& x, const at::Tensor& y) {
  DALLE_CHECK(x.sizes() == y.sizes());
  check_finite(x);
  check_finite(y);
  const auto p = x.to(at::kCPU, at::kDouble), q = y.to(at::kCPU, at::kDouble);
  std::vector<at::Tensor> row_sums;
  for (int64_t begin = 0; begin < p.size(0); begin += kRows) {
    const auto p_rows = p.slice(0, begin, begin + kRows), q_rows = q.slice(0, begin, begin + kRows);
    const auto h = cubic_kernel(p_rows, p) + cubic_kernel(q_rows, q) - cubic_kernel(p_rows, q) -
                   cubic_kernel(q_rows, p);
    row_sums.push_back(h.sum(1) - h.diagonal(begin));
  }
  const auto sums = at::cat(row_sums);  // [N]
  // U_i, the U-statistic without pair i, is (total - 2 sums_i) / ((n - 1) (n - 2)). The mean of the
  // jackknife's pseudovalues n U - (n - 1) U_i is U.
  const auto n = static_cast<double>(sums.numel());
  const auto total = sums.sum();
  const auto pseudovalues = total / (n - 1) - (total - 2 * sums) / (n - 2);
  return mean_interval(pseudovalues);
}

NeighborhoodScores neighborhood_scores(const at::Tensor& references, const at::Tensor& samples,
                                       int64_t k) {
  check_finite(references);
  check_finite(samples);
  const auto x = references.to(at::kCPU), y = samples.to(at::kCPU);
  const auto reference_radii = neighborhood_radii(x, k);
  const auto sample_radii = neighborhood_radii(y, k);
  at::Tensor neighborhoods = torch::zeros({y.size(0)}, at::kDouble);
  std::vector<at::Tensor> recalled, covered;
  for (int64_t begin = 0; begin < x.size(0); begin += kRows) {
    const auto distance = pair_distances(x.slice(0, begin, begin + kRows), y);
    const auto within = distance < reference_radii.slice(0, begin, begin + kRows).unsqueeze(1);
    neighborhoods += within.sum(0);
    covered.push_back(within.any(1));
    recalled.push_back((distance < sample_radii).any(1));
  }
  return {.precision = wilson_interval(neighborhoods > 0),
          .recall = wilson_interval(at::cat(recalled)),
          .density = mean_interval(neighborhoods / static_cast<double>(k)),
          .coverage = wilson_interval(at::cat(covered))};
}

NearestNeighbors nearest_neighbors(const at::Tensor& features, const at::Tensor& candidates) {
  check_finite(features);
  check_finite(candidates);
  std::vector<at::Tensor> smallest, indices;
  for (const at::Tensor& rows : features.split(kRows)) {
    const auto [distance, index] = pair_distances(rows, candidates).min(1);
    smallest.push_back(distance.to(at::kDouble));
    indices.push_back(index);
  }
  return {.distance = at::cat(smallest), .index = at::cat(indices)};
}

}  // namespace dalle
