#include "eval/interval.h"

#include <array>

#include <gtest/gtest.h>

namespace dalle {
namespace {

void expect_interval(const Interval& found, const Interval& expected) {
  EXPECT_NEAR(found.value, expected.value, 1e-12);
  EXPECT_NEAR(found.low, expected.low, 1e-12);
  EXPECT_NEAR(found.high, expected.high, 1e-12);
}

// The bounds are the roots in p of (p - k/n)^2 = z^2 p (1 - p) / n, found by numpy.roots.
TEST(IntervalTest, WilsonAgreesWithTheRootsOfItsEquation) {
  expect_interval(wilson_interval(8, 10), {0.8, 0.4901624715366418, 0.9433178485456248});
  expect_interval(wilson_interval(0, 20), {0, 0, 0.16112515805281938});
  expect_interval(wilson_interval(50, 50), {1, 0.9286524008666395, 1});
  expect_interval(wilson_interval(503, 1000), {0.503, 0.4720586747142753, 0.5339183647348115});
}

// NumPy: mean() and mean() +- 1.96 std(ddof=1) / sqrt(n).
TEST(IntervalTest, MeanAgreesWithNumPy) {
  expect_interval(mean_interval(std::array{30.1, 31.4, 29.7, 33.0}),
                  {31.05, 29.59095633039949, 32.509043669600516});
  expect_interval(mean_interval(std::array{3.5}), {3.5, 3.5, 3.5});
}

// NumPy: the linearized variance of the ratio estimator.
TEST(IntervalTest, RatioWeighsImagesByTheirCounts) {
  expect_interval(ratio_interval(std::array{3.0, 10.0, 4.0, 8.0}, std::array{2.0, 5.0, 2.0, 3.0}),
                  {2.0833333333333335, 1.677738810330482, 2.488927856336185});
}

}  // namespace
}  // namespace dalle
