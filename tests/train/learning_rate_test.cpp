#include "train/learning_rate.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(LearningRate, WarmsUpLinearlyThenHolds) {
  const DalleTrainConfig paper;
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 0), 4.5e-4 / 5000);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 2499), 4.5e-4 / 2);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 4999), 4.5e-4);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 429'999), 4.5e-4);
}

TEST(LearningRate, OfTheDvaeEndsAtThePublishedValue) {
  const DvaeTrainConfig paper;
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 0), 1e-4);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 1'200'000), 1.25e-6);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paper, 2'999'999), 1.25e-6);
}

TEST(LearningRate, CountsItsDecayFromTheEndOfTheWarmUp) {
  TrainConfig config;
  config.learning_rate = 1.0;
  config.warmup_steps = 10;
  config.decay = {.shape = ScheduleShape::kLinear, .from = 1, .to = 0, .steps = 100};
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(config, 10), 1.0);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(config, 60), 0.5);
}

TEST(ReduceOnPlateau, HalveFiveTimesAtMost) {
  const PlateauConfig config{.patience = 2};
  PlateauState state;
  for (int i = 0; i < 100; ++i) observe_loss(config, state, 1.0);
  EXPECT_EQ(state.reductions, 5);
  EXPECT_DOUBLE_EQ(4.5e-4 * plateau_factor(config, state), 1.40625e-5);  // appendix B.2
}

TEST(ReduceOnPlateau, WaitForTheirPatience) {
  PlateauState state;
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(observe_loss({.patience = 3}, state, 1.0));
  EXPECT_TRUE(observe_loss({.patience = 3}, state, 1.0));
}

TEST(ReduceOnPlateau, NeverCutWhileTheLossFalls) {
  PlateauState state;
  for (double loss = 9.0; loss > 0.1; loss *= 0.99)
    EXPECT_FALSE(observe_loss({.patience = 1}, state, loss));
  EXPECT_DOUBLE_EQ(plateau_factor({.patience = 1}, state), 1.0);
}

TEST(ReduceOnPlateau, ThatAreOffNeverCut) {
  PlateauState state;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(observe_loss({.patience = 0}, state, 1.0));
}

}  // namespace
}  // namespace dalle
