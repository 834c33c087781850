#pragma once

#include <cstdint>
#include <span>

namespace dalle {

/// A measured value and its 95 % confidence interval.
struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// The mean of independent measurements, with the normal interval: 1.96 standard errors to each
/// side. The interval of a single measurement is the value itself.
/// @param values  not empty
Interval mean_interval(std::span<const double> values);

/// The ratio of two sums over independent images, such as bits per token, with the normal interval
/// of the ratio estimator: images are independent of one another, but their tokens are not.
/// @param sums, counts  one per image; the counts must not sum to 0
Interval ratio_interval(std::span<const double> sums, std::span<const double> counts);

/// A proportion, with Wilson's score interval.
/// @param total  above 0
/// Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"
Interval wilson_interval(int64_t right, int64_t total);

}  // namespace dalle
