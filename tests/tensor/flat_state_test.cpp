#include "tensor/flat_state.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(FlatState, CopiesOnlyItsRanges) {
  FlatState state(torch::empty({6}), {{.begin = 1, .size = 2}, {.begin = 5, .size = 1}});
  state.assign(torch::arange(6, torch::kFloat32));
  EXPECT_TRUE(torch::equal(state.parts()[0], torch::tensor({1.0F, 2.0F})));
  const auto flat = torch::full({6}, 9.0);
  state.copy_to(flat);
  EXPECT_TRUE(torch::equal(flat, torch::tensor({9.0F, 1.0F, 2.0F, 9.0F, 9.0F, 5.0F})));
}

TEST(FlatState, StartsAtZero) {
  const FlatState state(torch::full({4}, 7.0), {{.begin = 0, .size = 4}});
  EXPECT_TRUE(torch::equal(state.parts()[0], torch::zeros({4})));
}

TEST(FlatState, DoesNotShareTheMemoryOfWhatItCopies) {
  const auto weights = torch::ones({3});
  FlatState state(weights, all_of(weights));
  state.assign(weights);
  weights.fill_(5.0);
  EXPECT_TRUE(torch::equal(state.parts()[0], torch::ones({3})));
}

TEST(FlatState, AveragesExponentially) {
  FlatState state(torch::empty({4}), {{.begin = 1, .size = 3}});
  state.assign(torch::ones({4}));
  state.lerp(torch::zeros({4}), 1 - 0.9);
  state.lerp(torch::zeros({4}), 1 - 0.5);
  EXPECT_TRUE(torch::allclose(state.parts()[0], torch::full({3}, 0.45)));
}

}  // namespace
}  // namespace dalle
