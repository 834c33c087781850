#include "dalle/optim/weight_average.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(WeightAverage, StartsAtTheWeightsAndDoesNotShareTheirMemory) {
  const auto weights = torch::ones({3});
  const WeightAverage average(weights);
  weights.fill_(5.0);
  EXPECT_TRUE(torch::equal(average.state().parts()[0], torch::ones({3})));
}

TEST(WeightAverage, ForgetsByItsDecay) {
  const auto weights = torch::ones({3});
  WeightAverage average(weights);
  average.update(torch::zeros({3}), 0.9);
  average.update(torch::zeros({3}), 0.5);
  EXPECT_TRUE(torch::allclose(average.state().parts()[0], torch::full({3}, 0.45)));
}

}  // namespace
}  // namespace dalle
