#include "data/epoch_permutation.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace dalle {
namespace {

std::vector<int64_t> epoch_of(const EpochPermutation& order, int64_t epoch) {
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < order.size(); ++i)
    indices.push_back(order.index(epoch * order.size() + i));
  return indices;
}

bool is_permutation(const std::vector<int64_t>& indices) {
  std::vector<bool> seen(indices.size());
  for (const int64_t index : indices) {
    if (index < 0 || index >= static_cast<int64_t>(indices.size())) return false;
    if (seen[static_cast<size_t>(index)]) return false;
    seen[static_cast<size_t>(index)] = true;
  }
  return true;
}

TEST(EpochPermutationTest, EveryEpochOfASmallDataSetIsAPermutation) {
  for (int64_t size = 1; size <= 300; ++size) {
    const EpochPermutation order(7, size);
    for (int64_t epoch = 0; epoch < 3; ++epoch)
      ASSERT_TRUE(is_permutation(epoch_of(order, epoch))) << "size " << size << " epoch " << epoch;
  }
}

TEST(EpochPermutationTest, EveryEpochOfALargeDataSetIsAPermutation) {
  for (const int64_t size : {4095, 4096, 4097, 65'535, 65'536, 65'537, 99'991, 131'071, 262'144})
    EXPECT_TRUE(is_permutation(epoch_of(EpochPermutation(7, size), 2))) << "size " << size;
}

TEST(EpochPermutationTest, StaysInRangeForHugeSizes) {
  for (const int64_t size : {int64_t{1} << 40, (int64_t{1} << 40) + 1, (int64_t{1} << 61) - 1}) {
    const EpochPermutation order(7, size);
    for (const int64_t position : {int64_t{0}, int64_t{1}, size / 3, size - 1, size, size + 1}) {
      EXPECT_GE(order.index(position), 0);
      EXPECT_LT(order.index(position), size);
    }
    EXPECT_EQ(order.epoch(size - 1), 0);
    EXPECT_EQ(order.epoch(size), 1);
  }
}

TEST(EpochPermutationTest, DependsOnSeedAndEpoch) {
  const EpochPermutation order(1, 1000);
  const auto first = epoch_of(order, 0);
  EXPECT_NE(first, epoch_of(order, 1));
  EXPECT_NE(first, epoch_of(EpochPermutation(2, 1000), 0));
  EXPECT_NE(epoch_of(order, 1), epoch_of(EpochPermutation(2, 1000), 0));
}

TEST(EpochPermutationTest, IsAFunctionOfThePositionAlone) {
  const EpochPermutation order(3, 97);
  const auto forwards = epoch_of(order, 4);
  const EpochPermutation another(3, 97);
  for (int64_t i = 96; i >= 0; --i)
    EXPECT_EQ(another.index(4 * 97 + i), forwards[static_cast<size_t>(i)]);
}

// A different order would change every experiment. These are the numbers of the first version.
TEST(EpochPermutationTest, NeverChanges) {
  EXPECT_THAT(epoch_of(EpochPermutation(1, 10), 0),
              testing::ElementsAre(5, 6, 3, 7, 4, 8, 9, 0, 1, 2));
  EXPECT_THAT(epoch_of(EpochPermutation(1, 10), 1),
              testing::ElementsAre(5, 7, 2, 9, 3, 1, 4, 0, 6, 8));
  EXPECT_EQ(EpochPermutation(1, 1'000'003).index(0), 482'774);
  EXPECT_EQ(EpochPermutation(1, 1'000'003).index(5 * 1'000'003 + 17), 210'115);
}

// Chi-squared with size - 1 degrees of freedom, over epochs: mean size - 1, variance 2 (size - 1).
// Chance does not produce deviations of six standard deviations.
TEST(EpochPermutationTest, PlacesEveryIndexUniformly) {
  constexpr int64_t kEpochs = 4000;
  for (const int64_t size : {2, 3, 4, 5, 10, 17, 64}) {
    const EpochPermutation order(11, size);
    for (const int64_t place : {int64_t{0}, size / 2, size - 1}) {
      std::vector<double> counts(static_cast<size_t>(size));
      for (int64_t epoch = 0; epoch < kEpochs; ++epoch)
        ++counts[static_cast<size_t>(order.index(epoch * size + place))];
      const double expected = static_cast<double>(kEpochs) / static_cast<double>(size);
      double chi_squared = 0;
      for (const double count : counts)
        chi_squared += (count - expected) * (count - expected) / expected;
      const auto freedom = static_cast<double>(size - 1);
      EXPECT_LT(chi_squared, freedom + 6 * std::sqrt(2 * freedom))
          << "size " << size << " place " << place;
    }
  }
}

// For a random permutation, the sum of |p(i + 1) - p(i)| has mean (n^2 - 1) / 3. Its standard
// deviation grows as n^1.5 and is below 1% of the mean here.
TEST(EpochPermutationTest, SeparatesNeighbors) {
  constexpr int64_t kSize = 20'000;
  const auto indices = epoch_of(EpochPermutation(5, kSize), 0);
  double sum = 0;
  for (size_t i = 1; i < indices.size(); ++i)
    sum += static_cast<double>(std::abs(indices[i] - indices[i - 1]));
  const double expected = (static_cast<double>(kSize) * kSize - 1) / 3;
  EXPECT_NEAR(sum / expected, 1.0, 0.03);
}

TEST(EpochPermutationTest, RejectsAnEmptyDataSet) {
  for (const int64_t size : {0, -1}) {
    try {
      EpochPermutation(1, size);
      FAIL() << "accepted " << size;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("expected at least 1"));
    }
  }
}

}  // namespace
}  // namespace dalle
