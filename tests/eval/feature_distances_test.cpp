#include "eval/feature_distances.h"

#include <cmath>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// [count, 4] float64, as tests/fixtures/image_distances.py has it.
at::Tensor features(int64_t count, double phase) {
  const at::Tensor i = torch::arange(count, at::kDouble).view({count, 1});
  const at::Tensor j = torch::arange(4, at::kDouble);
  return (0.7 * i + 1.3 * j + 0.9 * i * j + phase).sin();
}

void expect_near(const Interval& found, double value) {
  EXPECT_NEAR(found.value, value, 1e-12);
}

class FeatureDistancesTest : public testing::Test {
 protected:
  const at::Tensor x = features(20, 0);
  const at::Tensor y = 1.5 * features(20, 0.5) + 0.3;
};

// scipy.linalg.sqrtm of SciPy 1.17.1; torchmetrics 1.9.0 agrees.
TEST_F(FeatureDistancesTest, FrechetAgreesWithScipy) {
  EXPECT_NEAR(frechet_distance(fit_normal(x), fit_normal(y)), 0.9480176135149483, 1e-9);
  EXPECT_NEAR(frechet_distance(fit_normal(y), fit_normal(x)), 0.9480176135149483, 1e-9);
}

TEST(FrechetDistanceTest, AgreesWithTheFormulaForDiagonalCovariances) {
  const auto diagonal = [](std::vector<double> mean, std::vector<double> variances) {
    return NormalFit{.mean = torch::tensor(mean),
                     .covariance = torch::diag(torch::tensor(variances))};
  };
  // |m1 - m2|^2 + sum (s1 - s2)^2 for the standard deviations s.
  EXPECT_NEAR(frechet_distance(diagonal({0, 1, 2}, {1, 4, 9}), diagonal({3, 1, 1}, {4, 4, 1})),
              10 + 1 + 0 + 4, 1e-12);
  EXPECT_NEAR(frechet_distance(diagonal({0, 0}, {1, 0}), diagonal({0, 0}, {0, 1})), 2, 1e-12)
      << "singular covariances";
}

TEST(FrechetDistanceTest, IsZeroForEqualSetsAndNeverNegative) {
  for (const int64_t count : {3, 5, 50}) {  // of rank 2, 4 and 4
    const double distance =
        frechet_distance(fit_normal(features(count, 1)), fit_normal(features(count, 1).flip(0)));
    EXPECT_NEAR(distance, 0, 1e-6);
    EXPECT_GE(distance, 0);
  }
}

// The U-statistic and its jackknife, term by term, with polynomial_kernel() of scikit-learn 1.9.1.
// torchmetrics 1.9.0 agrees with it up to k(x_i, y_i).
TEST_F(FeatureDistancesTest, KernelDistanceAgreesWithScikitLearn) {
  const Interval found = kernel_distance(x, y);
  EXPECT_NEAR(found.value, 0.6465653703295698, 1e-12);
  EXPECT_NEAR(found.low, 0.179410591677287, 1e-10);
  EXPECT_NEAR(found.high, 1.1137201489818527, 1e-10);
}

TEST(KernelDistanceTest, IntervalsContainZeroIfDistributionsAreEqual) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  constexpr int kRepetitions = 400;
  int covered = 0;
  double sum = 0, squares = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const at::Tensor sets = torch::randn({2, 30, 3}, generator, at::kDouble);
    const Interval found = kernel_distance(sets[0], sets[1]);
    covered += found.low <= 0 && found.high >= 0;
    sum += found.value;
    squares += found.value * found.value;
  }
  EXPECT_GE(covered, 0.95 * kRepetitions);
  EXPECT_LT(std::abs(sum), 4 * std::sqrt(squares)) << "unbiased";
}

TEST(KernelDistanceTest, PairsMayDependOnEachOther) {
  const at::Tensor x = features(30, 0);
  EXPECT_NEAR(kernel_distance(x, x).value, 0, 1e-12) << "k(x_i, y_i) would make it negative";
}

TEST(KernelDistanceTest, ManyImagesAreComputedInParts) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const at::Tensor x = torch::randn({1030, 2}, generator, at::kDouble);
  const at::Tensor y = torch::randn({1030, 2}, generator, at::kDouble) + 1;
  const auto kernel = [](const at::Tensor& a, const at::Tensor& b) {
    return (a.mm(b.t()) / 2 + 1).pow(3).fill_diagonal_(0).sum();
  };
  EXPECT_NEAR(kernel_distance(x, y).value,
              ((kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)) / (1030.0 * 1029)).item<double>(),
              1e-9);
}

// compute_prdc() of prdc 0.2, the implementation of Naeem et al.
TEST_F(FeatureDistancesTest, NeighborhoodScoresAgreeWithPrdc) {
  const NeighborhoodScores two = neighborhood_scores(x, y.narrow(0, 0, 15), 2);
  expect_near(two.precision, 0.7333333333333333);
  expect_near(two.recall, 1);
  expect_near(two.density, 0.5);
  expect_near(two.coverage, 0.6);
  const NeighborhoodScores five = neighborhood_scores(x, y.narrow(0, 0, 15), 5);
  expect_near(five.precision, 1);
  expect_near(five.recall, 1);
  expect_near(five.density, 0.44000000000000006);
  expect_near(five.coverage, 0.75);
}

TEST(NeighborhoodScoresTest, FarSetsHaveNothingInCommon) {
  const NeighborhoodScores far = neighborhood_scores(features(8, 0), features(8, 0) + 100, 5);
  for (const Interval& score : {far.precision, far.recall, far.density, far.coverage})
    EXPECT_EQ(score.value, 0);
}

TEST(NearestNeighborsTest, EqualVectorsHaveDistanceZero) {
  const at::Tensor candidates = 100 * features(1500, 0).to(at::kFloat);
  const NearestNeighbors found = nearest_neighbors(candidates.flip(0), candidates);
  EXPECT_TRUE(found.distance.equal(torch::zeros({1500}, at::kDouble)));
  EXPECT_TRUE(found.index.equal(torch::arange(1500).flip(0)));
  const auto one = nearest_neighbors(torch::tensor({{1.0, 1.0}}), torch::tensor({{4.0, 5.0}}));
  EXPECT_EQ(one.distance.item<double>(), 5);
}

TEST(FeatureDistancesErrorsTest, FeaturesMustBeFinite) {
  EXPECT_THAT([] { fit_normal(features(9, 0).log()); },
              ThrowsMessage<Error>(HasSubstr("values that are not finite in Double [9, 4]")));
}

}  // namespace
}  // namespace dalle
