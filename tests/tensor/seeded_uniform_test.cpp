#include "tensor/seeded_uniform.h"

#include <array>
#include <cmath>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/seeds.h"

namespace dalle {
namespace {

constexpr std::array<uint64_t, 3> kThreeSeeds{7, 0xffffffffffffffffULL, 0x123456789abcdef0ULL};

TEST(SeededUniformTest, UsesTheHalvesOfTheSeedStream) {
  const auto numbers = seeded_uniform(kThreeSeeds, 101);
  for (int64_t i = 0; i < 3; ++i) {
    SeedStream stream(kThreeSeeds[static_cast<size_t>(i)]);
    for (int64_t j = 0; j < 101; j += 2) {
      const uint64_t bits = stream();
      const auto low = static_cast<double>((bits & 0xffffffffULL) >> 1);
      const auto high = static_cast<double>(bits >> 33);
      EXPECT_NEAR(numbers[i][j].item<double>(), (low + 0.5) * 0x1p-31, 1e-7);
      if (j == 100) continue;
      EXPECT_NEAR(numbers[i][j + 1].item<double>(), (high + 0.5) * 0x1p-31, 1e-7);
    }
  }
}

TEST(SeededUniformTest, MatchesTensorOperations) {
  for (const int64_t count : {0, 1, 2, 9, 1000})
    EXPECT_TRUE(torch::equal(seeded_uniform(kThreeSeeds, count),
                             seeded_uniform_by_tensor_operations(kThreeSeeds, count)));
}

TEST(SeededUniformTest, DoesNotDependOnThreadsOrOtherRows) {
  const int64_t count = 100'001;  // more than one task of the parallel loop
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one_thread = seeded_uniform(kThreeSeeds, count);
  at::set_num_threads(2);
  const auto two_threads = seeded_uniform(kThreeSeeds, count);
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(one_thread, two_threads));
  EXPECT_TRUE(
      torch::equal(one_thread[2], seeded_uniform(std::span(kThreeSeeds).last(1), count)[0]));
}

TEST(SeededUniformTest, IsUniformAndExcludesBothEnds) {
  const auto numbers = seeded_uniform(kThreeSeeds, 1'000'000).to(at::kDouble);
  EXPECT_GT(numbers.min().item<double>(), 0.0);
  EXPECT_LT(numbers.max().item<double>(), 1.0);
  EXPECT_TRUE(std::isfinite(numbers.to(at::kFloat).neg().log1p().min().item<double>()));
  const auto counts = numbers.histc(20, 0, 1) / numbers.numel();
  EXPECT_LT((counts - 0.05).abs().max().item<double>(), 6e-4);  // 5 standard deviations
  const auto pairs = numbers.view({-1, 2});
  EXPECT_NEAR(((pairs.select(1, 0) - 0.5) * (pairs.select(1, 1) - 0.5)).mean().item<double>(), 0.0,
              4e-4);
}

}  // namespace
}  // namespace dalle
