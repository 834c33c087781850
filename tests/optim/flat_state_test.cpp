#include "dalle/optim/flat_state.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

TEST(FlatState, KeepsItsRangesAndNothingElse) {
  FlatState state(torch::empty({6}), {{.begin = 1, .size = 2}, {.begin = 5, .size = 1}});
  state.assign(torch::arange(6, torch::kFloat32));
  EXPECT_TRUE(torch::equal(state.parts()[0], torch::tensor({1.0F, 2.0F})));
  EXPECT_TRUE(torch::equal(state.whole(), torch::tensor({0.0F, 1.0F, 2.0F, 0.0F, 0.0F, 5.0F})));
}

TEST(FlatState, OfEverythingIsNotCopied) {
  const FlatState state(torch::empty({4}), {{.begin = 0, .size = 4}});
  EXPECT_TRUE(state.whole().is_alias_of(state.parts()[0]));
  EXPECT_TRUE(torch::equal(state.whole(), torch::zeros({4})));
}

}  // namespace
}  // namespace dalle
