#include "dalle/train/trainer_state.h"

#include <cmath>

#include <gtest/gtest.h>

#include "dalle/core/error.h"

namespace dalle {
namespace {

TEST(TrainerState, ComesBackBitForBit) {
  TrainerState state;
  state.step = 12;
  state.updates = 11;
  state.skipped_in_row = 1;
  state.plateau = {.best_loss = 1.0 / 3, .stale = 4, .cuts = 2};
  for (int i = 1; i < 50; ++i) state.since_log.add("loss", std::sqrt(i) * 1e-7);
  state.since_log.add("norm", 0.1 + 0.2);
  state.since_evaluation.add("loss", 5e-324);
  state.lines = 2;
  state.score = -1.0 / 7;
  state.evaluation_due = state.checkpoint_due = true;
  const TrainerState back = TrainerState::from_json(state.to_json(), "test");
  EXPECT_EQ(back.to_json(), state.to_json());
  EXPECT_EQ(back.step, 12);
  EXPECT_EQ(back.skipped(), 1);
  EXPECT_EQ(back.plateau.best_loss, 1.0 / 3);
  EXPECT_EQ(back.since_log.mean("loss"), state.since_log.mean("loss"));
  EXPECT_EQ(back.since_log.means()[1].first, "norm");
}

TEST(TrainerState, OfAFreshRunComesBack) {
  const TrainerState back = TrainerState::from_json(TrainerState().to_json(), "test");
  EXPECT_EQ(back.step, 0);
  EXPECT_TRUE(std::isinf(back.plateau.best_loss));
  EXPECT_TRUE(back.since_log.empty());
}

TEST(TrainerState, IsFinishedWithItsReportsOnly) {
  TrainerState state;
  state.step = 5;
  EXPECT_FALSE(state.finished(6));
  EXPECT_TRUE(state.finished(5));
  state.pictures_due = true;
  EXPECT_FALSE(state.finished(5));
  state.pictures_due = false;
  state.evaluation_due = true;
  EXPECT_FALSE(state.finished(5));
}

TEST(TrainerState, OfAnEarlierVersionHasAllLinesOfItsStepAndNothingDue) {
  std::string text = TrainerState().to_json();
  text.replace(text.find("\"score\""), std::string::npos, "\"skipped\": 0}");
  const TrainerState state = TrainerState::from_json(text, "test");
  EXPECT_GT(state.lines, 1'000'000);
  EXPECT_TRUE(state.finished(0));
}

TEST(TrainerState, RefusesWhatItIsNot) {
  for (const char* text : {"", "{", "[]", "{}", R"({"step": "x"})"})
    EXPECT_THROW(TrainerState::from_json(text, "trainer.json"), Error) << text;
}

TEST(RunningMeans, KeepTheOrderOfTheirNames) {
  RunningMeans means;
  for (const double value : {1.0, 2.0, 6.0}) means.add("b", value);
  means.add("a", 5.0);
  EXPECT_EQ(means.means(), (std::vector<std::pair<std::string, double>>{{"b", 3.0}, {"a", 5.0}}));
  EXPECT_THROW(means.mean("c"), std::logic_error);
}

}  // namespace
}  // namespace dalle
