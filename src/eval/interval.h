#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace dalle {

/// A measured value and its 95 % confidence interval.
struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// The mean of independent measurements, with the normal interval: 1.96 standard errors to each
/// side. The interval of a single measurement is infinite.
/// @param values  not empty
Interval mean_interval(std::span<const double> values);

/// @param values  [N] float64 on the CPU, contiguous
Interval mean_interval(const at::Tensor& values);

/// The ratio of two sums over independent images, such as bits per token, with the normal interval
/// of the ratio estimator: images are independent of one another, but their tokens are not.
/// @param sums, counts  one per image; the counts must not sum to 0
Interval ratio_interval(std::span<const double> sums, std::span<const double> counts);

/// A proportion of independent observations, with Wilson's score interval.
/// @param right  in [0, total]; a tie may count as a fraction
/// @param total  above 0
/// Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"
Interval wilson_interval(double right, int64_t total);

/// The share of the observations that are true.
/// @param right  [N] bool
Interval wilson_interval(const at::Tensor& right);

/// A proportion of observations that depend on one another within clusters, such as the tokens of
/// an image or the images of a caption: Wilson's interval for the number of independent
/// observations that would have the variance of the ratio estimator over clusters. That number is
/// at most that of the observations; it is that of the clusters if all observations agree.
/// @param right, totals  one per cluster; the totals must not sum to 0
/// Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number
/// of positive counts estimated from survey data" (with Wilson's interval instead of the exact one)
Interval clustered_proportion(std::span<const double> right, std::span<const double> totals);

/// The interval of a positive estimate whose logarithm has a standard error of `error`.
Interval log_interval(double value, double error);

}  // namespace dalle
