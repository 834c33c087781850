#include "optim/ema.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(Ema, StartsAtTheWeightsAndDoesNotShareTheirMemory) {
  const auto weights = torch::ones({3});
  const Ema ema(weights, all_of(weights));
  weights.fill_(5.0);
  EXPECT_TRUE(torch::equal(ema.state().parts()[0], torch::ones({3})));
}

TEST(Ema, DecaysExponentially) {
  const auto weights = torch::ones({3});
  Ema ema(weights, all_of(weights));
  ema.update(torch::zeros({3}), 0.9);
  ema.update(torch::zeros({3}), 0.5);
  EXPECT_TRUE(torch::allclose(ema.state().parts()[0], torch::full({3}, 0.45)));
}

}  // namespace
}  // namespace dalle
