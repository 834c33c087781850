#include "eval/interval.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace dalle {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;  // 97.5 %

}  // namespace

Interval mean_interval(std::span<const double> values) {
  return ratio_interval(values, std::vector<double>(values.size(), 1.0));
}

Interval ratio_interval(std::span<const double> sums, std::span<const double> counts) {
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
  const double error = sums.size() == 1 ? 0 : std::sqrt(n / (n - 1) * squares) / std::abs(total);
  return {.value = ratio,
          .low = ratio - kNormalQuantile * error,
          .high = ratio + kNormalQuantile * error};
}

Interval wilson_interval(int64_t right, int64_t total) {
  DALLE_CHECK(total > 0 && right >= 0 && right <= total);
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(right) / n;
  const double z2 = kNormalQuantile * kNormalQuantile;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kNormalQuantile * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {.value = p, .low = center - half, .high = center + half};
}

}  // namespace dalle
