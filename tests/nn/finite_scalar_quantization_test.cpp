#include "nn/finite_scalar_quantization.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

class FsqLevelsTest : public testing::TestWithParam<std::vector<int64_t>> {
 protected:
  const std::vector<int64_t> levels_ = GetParam();
  const int64_t channels_ = static_cast<int64_t>(levels_.size());

  at::Tensor all_codes() const {
    int64_t count = 1;
    for (const int64_t level : levels_) count *= level;
    return torch::arange(count).view({1, 1, count});
  }
};

TEST_P(FsqLevelsTest, EveryCodeIsThatOfItsValues) {
  const auto values = fsq_values(all_codes(), levels_);
  EXPECT_EQ(values.sizes(), at::IntArrayRef({1, channels_, 1, all_codes().numel()}));
  EXPECT_TRUE(torch::equal(fsq_codes(values, levels_), all_codes()));
  EXPECT_LE(values.abs().max().item<double>(), 1);
}

TEST_P(FsqLevelsTest, RoundsToTheValuesOfItsCodesAndReachesAllLevels) {
  const auto latents =
      torch::linspace(-6, 6, 5001).view({1, 1, 1, -1}).expand({1, channels_, 1, 5001});
  const auto values = fsq_round(latents, levels_);
  EXPECT_TRUE(torch::equal(fsq_values(fsq_codes(values, levels_), levels_), values));
  for (int64_t channel = 0; channel < channels_; ++channel) {
    const auto used = std::get<0>(at::_unique(values.select(1, channel)));
    EXPECT_EQ(used.numel(), levels_[static_cast<size_t>(channel)]);
    const auto steps = values.select(1, channel).flatten().diff();
    EXPECT_GE(steps.min().item<double>(), 0);  // in order
  }
  EXPECT_EQ(fsq_round(torch::zeros({1, channels_, 1, 1}), levels_).abs().max().item<double>(), 0);
}

TEST_P(FsqLevelsTest, TheGradientIsThatOfTheBoundBeforeRounding) {
  const auto latents = torch::linspace(-2, 2, 41, torch::kDouble)
                           .view({1, 1, 1, -1})
                           .repeat({1, channels_, 1, 1})
                           .requires_grad_();
  fsq_round(latents, levels_).sum().backward();
  for (int64_t channel = 0; channel < channels_; ++channel) {
    const auto level = static_cast<double>(levels_[static_cast<size_t>(channel)]);
    const double half = (level - 1) * 1.001 / 2, offset = std::fmod(level, 2) == 0 ? 0.5 : 0;
    for (int64_t i = 0; i < 41; ++i) {
      const double x = latents[0][channel][0][i].item<double>() + std::atanh(offset / half);
      const double slope = half * (1 - std::tanh(x) * std::tanh(x)) / std::floor(level / 2);
      EXPECT_NEAR(latents.grad()[0][channel][0][i].item<double>(), slope, 1e-9);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, FsqLevelsTest,
                         testing::Values(std::vector<int64_t>{8, 6, 5},
                                         std::vector<int64_t>{8, 5, 5, 5},
                                         std::vector<int64_t>{7, 5, 5, 5, 5},
                                         std::vector<int64_t>{16, 8, 8, 8},
                                         std::vector<int64_t>{2, 3, 2}, std::vector<int64_t>{64}),
                         [](const auto& test) {
                           std::string name = "of";
                           for (const int64_t level : test.param)
                             name += "_" + std::to_string(level);
                           return name;
                         });

}  // namespace
}  // namespace dalle
