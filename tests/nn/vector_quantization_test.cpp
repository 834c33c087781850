#include "nn/vector_quantization.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

at::Tensor random_doubles(at::IntArrayRef sizes, uint64_t seed) {
  return torch::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kDouble);
}

TEST(VectorQuantizationTest, StraightThroughHasTheValueToTheBitAndTheGradientOfTheSource) {
  const auto value = torch::randn({1000}) * 1e3;
  const auto source = torch::randn({1000}).requires_grad_();
  const auto weights = torch::randn({1000});
  const auto passed = straight_through(value, source);
  EXPECT_TRUE(torch::equal(passed, value));
  (passed * weights).sum().backward();
  EXPECT_TRUE(torch::equal(source.grad(), weights));
}

TEST(VectorQuantizationTest, FindsTheNearestCodesAlsoInSeveralParts) {
  const int64_t vocab_size = 3000;  // of which 1398 vectors are compared at a time
  const auto vectors = random_doubles({1500, 5}, 1), codebook = random_doubles({5, vocab_size}, 2);
  const auto codes = nearest_codes(vectors, codebook);
  const auto nearest = torch::cdist(vectors, codebook.t().contiguous(), 2,
                                    /*no matrix products*/ 2)
                           .argmin(1);
  EXPECT_TRUE(torch::equal(codes, nearest));
}

TEST(VectorQuantizationTest, OfEquallyNearCodesTheFirstOneIsFound) {
  const auto codebook = torch::tensor({{3.0, 1.0, 1.0, -1.0}, {0.0, 2.0, 2.0, 2.0}});  // [2, 4]
  EXPECT_EQ(nearest_codes(torch::tensor({{0.0, 2.0}}), codebook).item<int64_t>(), 1);
}

TEST(VectorQuantizationTest, AveragesEqualThoseOfAScalarLoop) {
  constexpr int64_t kCodes = 7, kWidth = 3, kVectors = 40, kSteps = 6;
  constexpr double kDecay = 0.9, kEpsilon = 1e-3;
  auto average = torch::cat(
      {torch::ones({kCodes, 1}, torch::kDouble), random_doubles({kCodes, kWidth}, 3)}, 1);
  std::vector<double> counts(kCodes, 1.0), sums(kCodes * kWidth);
  for (int64_t k = 0; k < kCodes; ++k)
    for (int64_t d = 0; d < kWidth; ++d)
      sums[static_cast<size_t>(k * kWidth + d)] = average[k][d + 1].item<double>();
  for (uint64_t step = 0; step < kSteps; ++step) {
    const auto vectors = random_doubles({kVectors, kWidth}, 10 + step);
    const auto codes = (vectors.select(1, 0).abs() * 2).to(torch::kLong).clamp_max(kCodes - 1);
    const auto codebook =
        update_code_averages(average, code_sums(vectors, codes, kCodes), kDecay, kEpsilon);
    for (double& count : counts) count *= kDecay;
    for (double& sum : sums) sum *= kDecay;
    double total = 0;
    for (int64_t i = 0; i < kVectors; ++i) {
      const auto code = static_cast<size_t>(codes[i].item<int64_t>());
      counts[code] += 1 - kDecay;
      for (size_t d = 0; d < kWidth; ++d)
        sums[code * kWidth + d] +=
            (1 - kDecay) * vectors[i][static_cast<int64_t>(d)].item<double>();
    }
    for (const double count : counts) total += count;
    for (size_t k = 0; k < kCodes; ++k)
      for (size_t d = 0; d < kWidth; ++d) {
        const double smoothed = (counts[k] + kEpsilon) / (total + kCodes * kEpsilon) * total;
        EXPECT_NEAR(codebook[static_cast<int64_t>(k)][static_cast<int64_t>(d)].item<double>(),
                    sums[k * kWidth + d] / smoothed, 1e-12);
      }
  }
}

TEST(VectorQuantizationTest, SumsOfPartsAddUpToThoseOfTheBatch) {
  const auto vectors = random_doubles({30, 4}, 5);
  const auto codes = torch::randint(9, {30}, torch::kLong);
  const auto parts = code_sums(vectors.slice(0, 0, 13), codes.slice(0, 0, 13), 9) +
                     code_sums(vectors.slice(0, 13), codes.slice(0, 13), 9);
  EXPECT_TRUE(torch::allclose(parts, code_sums(vectors, codes, 9), 0, 1e-12));
  EXPECT_TRUE(torch::equal(parts.select(1, 0), codes.bincount({}, 9).to(torch::kDouble)));
}

}  // namespace
}  // namespace dalle
