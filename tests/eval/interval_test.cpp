#include "eval/interval.h"

#include <array>
#include <limits>

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
  EXPECT_EQ(mean_interval(std::array{3.5}).high, std::numeric_limits<double>::infinity());
}

// NumPy: the linearized variance of the ratio estimator.
TEST(IntervalTest, RatioWeighsImagesByTheirCounts) {
  expect_interval(ratio_interval(std::array{3.0, 10.0, 4.0, 8.0}, std::array{2.0, 5.0, 2.0, 3.0}),
                  {2.0833333333333335, 1.677738810330482, 2.488927856336185});
}

// Computed from the definition in Python: the variance of the ratio estimator, then Wilson's
// formula.
TEST(IntervalTest, ClustersOfDependentObservationsCountForLess) {
  expect_interval(clustered_proportion(std::array{4.0, 0.0, 3.0, 4.0, 1.0},
                                       std::array{4.0, 4.0, 4.0, 4.0, 4.0}),
                  {0.6, 0.24874346223414, 0.8717202700245139});
  // All agree, or there is only one: as many observations as clusters.
  expect_interval(clustered_proportion(std::array{4.0, 4.0, 4.0}, std::array{4.0, 4.0, 4.0}),
                  {1, wilson_interval(3, 3).low, 1});
  expect_interval(clustered_proportion(std::array{2.0}, std::array{4.0}),
                  {0.5, 0.05462075552885198, 0.945379244471148});
  // Clusters of one are independent: nearly Wilson's interval, whose variance divides by n.
  const Interval single = clustered_proportion(std::array{1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0},
                                               std::array{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0});
  EXPECT_NEAR(single.low, wilson_interval(6, 8).low, 0.03);
  EXPECT_NEAR(single.high, wilson_interval(6, 8).high, 0.03);
}

}  // namespace
}  // namespace dalle
