#include "eval/interval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace dalle {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;  // 97.5 %

/// @param n  above 0; need not be whole
Interval wilson(double p, double n) {
  const double z2 = kNormalQuantile * kNormalQuantile;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kNormalQuantile * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {.value = p, .low = std::max(0.0, center - half), .high = std::min(1.0, center + half)};
}

struct Ratio {
  double value;
  double error;  // standard error; infinite for a single pair
  double total;  // of the counts
};

Ratio ratio_of(std::span<const double> sums, std::span<const double> counts) {
  DALLE_CHECK(!sums.empty() && sums.size() == counts.size());
  const auto n = static_cast<double>(sums.size());
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  DALLE_CHECK(total != 0);
  const double ratio = std::accumulate(sums.begin(), sums.end(), 0.0) / total;
  double squares = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    const double residual = sums[i] - ratio * counts[i];
    squares += residual * residual;
  }
  const double error = sums.size() == 1 ? std::numeric_limits<double>::infinity()
                                        : std::sqrt(n / (n - 1) * squares) / std::abs(total);
  return {.value = ratio, .error = error, .total = total};
}

}  // namespace

Interval mean_interval(std::span<const double> values) {
  return ratio_interval(values, std::vector<double>(values.size(), 1.0));
}

Interval mean_interval(const at::Tensor& values) {
  return mean_interval({values.const_data_ptr<double>(), static_cast<size_t>(values.numel())});
}

Interval ratio_interval(std::span<const double> sums, std::span<const double> counts) {
  const Ratio ratio = ratio_of(sums, counts);
  return {.value = ratio.value,
          .low = ratio.value - kNormalQuantile * ratio.error,
          .high = ratio.value + kNormalQuantile * ratio.error};
}

Interval wilson_interval(double right, int64_t total) {
  const auto n = static_cast<double>(total);
  DALLE_CHECK(total > 0 && right >= 0 && right <= n);
  return wilson(right / n, n);
}

Interval wilson_interval(const at::Tensor& right) {
  return wilson_interval(static_cast<double>(right.sum().item<int64_t>()), right.numel());
}

Interval clustered_proportion(std::span<const double> right, std::span<const double> totals) {
  const Ratio ratio = ratio_of(right, totals);
  const double p = ratio.value, clusters = static_cast<double>(right.size());
  DALLE_CHECK(p >= 0 && p <= 1);
  const bool varies = right.size() > 1 && ratio.error > 0 && p * (1 - p) > 0;
  const double independent = varies ? p * (1 - p) / (ratio.error * ratio.error) : clusters;
  return wilson(p, std::clamp(independent, 1.0, ratio.total));
}

Interval log_interval(double value, double error) {
  const double factor = std::exp(kNormalQuantile * error);
  return {.value = value, .low = value / factor, .high = value * factor};
}

}  // namespace dalle
