#include "train/training_counters.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace dalle {
namespace {

TEST(TrainingCounters, ComesBackBitForBit) {
  TrainingCounters counters;
  counters.step = 12;
  counters.updates = 11;
  counters.skipped_in_row = 1;
  counters.plateau = {.best_loss = 1.0 / 3, .bad_evals = 4, .reductions = 2};
  for (int i = 1; i < 50; ++i) counters.since_log.add("loss", std::sqrt(i) * 1e-7);
  counters.since_log.add("grad_norm", 0.1 + 0.2);
  counters.since_evaluation.add("loss", 5e-324);
  counters.lines_of_step = 2;
  counters.score = -1.0 / 7;
  counters.evaluation_due = counters.checkpoint_due = true;
  const TrainingCounters back = TrainingCounters::from_json(counters.to_json(), "test");
  EXPECT_EQ(back.to_json(), counters.to_json());
  EXPECT_EQ(back.step, 12);
  EXPECT_EQ(back.skipped(), 1);
  EXPECT_EQ(back.plateau.best_loss, 1.0 / 3);
  EXPECT_EQ(back.since_log.mean("loss"), counters.since_log.mean("loss"));
  EXPECT_EQ(back.since_log.means()[1].first, "grad_norm");
}

TEST(TrainingCounters, OfAFreshRunComesBack) {
  const TrainingCounters back = TrainingCounters::from_json(TrainingCounters().to_json(), "test");
  EXPECT_EQ(back.step, 0);
  EXPECT_TRUE(std::isinf(back.plateau.best_loss));
  EXPECT_TRUE(back.since_log.empty());
}

TEST(TrainingCounters, IsFinishedWithItsReportsOnly) {
  TrainingCounters counters;
  counters.step = 5;
  EXPECT_FALSE(counters.finished(6));
  EXPECT_TRUE(counters.finished(5));
  counters.samples_due = true;
  EXPECT_FALSE(counters.finished(5));
  counters.samples_due = false;
  counters.evaluation_due = true;
  EXPECT_FALSE(counters.finished(5));
}

TEST(TrainingCounters, OfAnEarlierVersionHasAllLinesOfItsStepAndNothingDue) {
  std::string text = TrainingCounters().to_json();
  text.replace(text.find("\"score\""), std::string::npos, "\"skipped\": 0}");
  const TrainingCounters counters = TrainingCounters::from_json(text, "test");
  EXPECT_GT(counters.lines_of_step, 1'000'000);
  EXPECT_TRUE(counters.finished(0));
}

TEST(TrainingCounters, OfVersion01KeepTheirValuesUnderTheirPresentNames) {
  const TrainingCounters counters = TrainingCounters::from_json(R"({
    "step": 30,
    "updates": 28,
    "skipped_in_row": 1,
    "plateau": {"best_loss": 0.75, "stale": 3, "cuts": 2},
    "since_log": [["loss", 4.5, 3], ["norm", 1.5, 2]],
    "since_evaluation": [["loss", 6.0, 4]],
    "score": 0.5,
    "best_score": 0.25,
    "lines": 2,
    "evaluation_due": false,
    "pictures_due": true,
    "checkpoint_due": true
  })",
                                                                "trainer.json");
  EXPECT_EQ(counters.step, 30);
  EXPECT_EQ(counters.updates, 28);
  EXPECT_EQ(counters.skipped_in_row, 1);
  EXPECT_EQ(counters.plateau.best_loss, 0.75);
  EXPECT_EQ(counters.plateau.bad_evals, 3);
  EXPECT_EQ(counters.plateau.reductions, 2);
  EXPECT_EQ(counters.since_log.means(),
            (std::vector<std::pair<std::string, double>>{{"loss", 1.5}, {"grad_norm", 0.75}}));
  EXPECT_EQ(counters.since_evaluation.mean("loss"), 1.5);
  EXPECT_EQ(counters.score, 0.5);
  EXPECT_EQ(counters.best_score, 0.25);
  EXPECT_EQ(counters.lines_of_step, 2);
  EXPECT_FALSE(counters.evaluation_due);
  EXPECT_TRUE(counters.samples_due);
  EXPECT_TRUE(counters.checkpoint_due);
}

TEST(TrainingCounters, RefusesWhatItIsNot) {
  for (const char* text : {"", "{", "[]", "{}", R"({"step": "x"})"})
    EXPECT_THROW(TrainingCounters::from_json(text, "trainer.json"), Error) << text;
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
