#include "sample/sample_tokens.h"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "sample/token_sampler.h"

namespace dalle::sample_tokens_test {  // test sources are joined, and others use the same names
namespace {

/// Logits of 300 tokens, a row for each of many kinds.
at::Tensor many_logits() {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(4);
  const at::Tensor random = torch::randn({20, 300}, generator);
  const float largest = std::numeric_limits<float>::max();
  std::vector<at::Tensor> kinds{random,
                                random * 10,
                                (random * 3).round() / 2,     // with ties
                                random.gt(0).to(at::kFloat),  // many ties of two values
                                random * 1e30,                // one token has all the weight
                                random * 1e-30,               // almost equal, and all weights are 1
                                random.sign() * largest,    // the difference is infinite in float32
                                torch::zeros_like(random),  // all equal
                                (random * 300).round() - 1000,        // weights that underflow
                                torch::randn({20, 300}, generator)};  // an even number of kinds
  return torch::cat(kinds);
}

std::span<const float> row_of(const at::Tensor& logits, int64_t row) {
  return {logits.const_data_ptr<float>() + row * logits.size(1),
          static_cast<size_t>(logits.size(1))};
}

std::vector<SamplingConfig> many_settings() {
  std::vector<SamplingConfig> settings;
  for (const double temperature : {0.0, 5e-324, 1e-12, 0.2, 1.0, 1.7, 100.0})
    for (const int64_t top_k : {0, 1, 7, 299, 300, 1000})
      for (const double top_p : {1e-9, 0.5, 0.9, 0.999, 1.0})
        settings.push_back({.temperature = temperature, .top_k = top_k, .top_p = top_p});
  return settings;
}

void expect_tokens_of_the_sampler(const at::Tensor& logits, const SamplingConfig& sampling,
                                  const at::Tensor& uniform) {
  const at::Tensor tokens = sample_tokens(logits, sampling, uniform);
  EXPECT_EQ(tokens.sizes(), at::IntArrayRef({logits.size(0)}));
  TokenSampler sampler(sampling);
  for (int64_t row = 0; row < logits.size(0); ++row)
    EXPECT_EQ(tokens[row].item<int64_t>(),
              sampler.sample(row_of(logits, row), uniform[row].item<double>()))
        << "row " << row << ", temperature " << sampling.temperature << ", top_k " << sampling.top_k
        << ", top_p " << sampling.top_p << ", uniform " << uniform[row];
}

TEST(SampleTokens, GivesTheTokensOfTheSampler) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const at::Tensor logits = many_logits();
  for (const SamplingConfig& sampling : many_settings()) {
    const at::Tensor uniform = torch::rand({logits.size(0)}, generator, at::kDouble);
    expect_tokens_of_the_sampler(logits, sampling, uniform);
  }
}

TEST(SampleTokens, GivesTheTokensOfTheSamplerAtTheEndsOfTheUniformNumbers) {
  const at::Tensor logits = many_logits();
  for (const double end : {0.0, 1 - 0x1.0p-53})
    for (const SamplingConfig& sampling : many_settings())
      expect_tokens_of_the_sampler(logits, sampling,
                                   torch::full({logits.size(0)}, end, at::kDouble));
}

TEST(SampleTokens, DoesNotDependOnOtherRows) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(6);
  const at::Tensor logits = many_logits();
  const at::Tensor uniform = torch::rand({logits.size(0)}, generator, at::kDouble);
  for (const SamplingConfig& sampling :
       {SamplingConfig{}, SamplingConfig{.top_k = 50}, SamplingConfig{.top_p = 0.9}}) {
    const at::Tensor tokens = sample_tokens(logits, sampling, uniform);
    for (int64_t row = 0; row < logits.size(0); ++row)
      EXPECT_TRUE(
          torch::equal(sample_tokens(logits.narrow(0, row, 1), sampling, uniform.narrow(0, row, 1)),
                       tokens.narrow(0, row, 1)));
  }
}

TEST(GuidedLogits, AreThoseOfTheSamplerBitForBit) {
  const at::Tensor logits = many_logits();
  const auto halves = logits.chunk(2);
  for (const double guidance : {0.0, 0.3, 1.5, 3.0, 100.0}) {
    TokenSampler sampler({.guidance = guidance});
    const at::Tensor guided = guided_logits(halves[0], halves[1], guidance);
    for (int64_t row = 0; row < guided.size(0); ++row) {
      const auto expected = sampler.guided(row_of(halves[0], row), row_of(halves[1], row));
      EXPECT_TRUE(std::ranges::equal(row_of(guided, row), expected)) << guidance << ", " << row;
    }
  }
}

}  // namespace
}  // namespace dalle::sample_tokens_test
