#include <csignal>
#include <filesystem>
#include <string>

#include "checkpoint/checkpoint.h"
#include "train/affine_task.h"
#include "train/training_counters.h"

namespace dalle {
namespace {

TEST_F(TrainerTest, AskedToStopAtAnyInstantItSavesItsStepAndResumesBitForBit) {
  const Outcome whole = train("whole", small_config());
  int64_t instants = 0;
  for (bool stopped = true; stopped; ++instants) {
    const int64_t event = instants + 1;
    const std::string name = fmt::format("event-{}", event);
    AffineTask task;
    task.stop_at_event = event;
    const RunFolder run(folder_ / name);
    {
      const StopSignal stop;
      const TrainConfig config = small_config();
      Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
      stopped = trainer.run(stop) == TrainOutcome::kStopped;
      const auto saved = checkpoints_in(run.checkpoints("affine"));
      ASSERT_FALSE(saved.empty()) << name;
      verify_checkpoint(saved[0]);
      EXPECT_EQ(saved[0].filename(), fmt::format("step-{:08d}", trainer.step())) << name;
    }
    const TrainConfig config = small_config();
    AffineTask resumed;
    const StopSignal stop;
    Trainer trainer(resumed, config, run, {.matmul_flops = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished) << name;
    EXPECT_TRUE(torch::equal(all_weights(resumed), whole.weights)) << name;
    EXPECT_EQ(metrics_of(run.root), whole.metrics) << name;
  }
  EXPECT_GT(instants, 300);
}

TEST_F(TrainerTest, AStopInterruptsAnEvaluationWhichIsRedoneLater) {
  const Outcome whole = train("whole", small_config());
  const RunFolder run(folder_ / "run");
  const TrainConfig config = small_config();
  {
    AffineTask task;
    const StopSignal stop;
    task.stop_in_evaluation_of = 6;
    Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kStopped);
    EXPECT_EQ(trainer.step(), 6);
    EXPECT_TRUE(task.evaluated_weights.empty());
  }
  AffineTask task;
  const StopSignal stop;
  Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
  EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
  EXPECT_EQ(task.evaluated_weights.size(), 4u);
  EXPECT_EQ(metrics_of(run.root), whole.metrics);
}

TEST_F(TrainerTest, WhatAResumedRunRedoesIsSaved) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = small_config();
  const auto go_on = [&](int64_t stop_in_evaluation_of, int64_t stop_in_images_of) {
    AffineTask task;
    task.stop_in_evaluation_of = stop_in_evaluation_of;
    task.stop_in_images_of = stop_in_images_of;
    const StopSignal stop;
    Trainer(task, config, run, {.matmul_flops = kAnyRate}).run(stop);
    return task.evaluated_weights.size();
  };
  go_on(/*stop_in_evaluation_of=*/24, -1);
  EXPECT_EQ(go_on(-1, /*stop_in_images_of=*/24), 1u);
  EXPECT_EQ(go_on(-1, -1), 0u);  // the evaluation was kept
  const auto newest = read_newest_checkpoint(run.checkpoints("affine"));
  EXPECT_TRUE(
      TrainingCounters::from_json(newest->files.at("trainer.json"), "test").finished(config.steps));
  EXPECT_EQ(metrics_of(run.root), train("whole", config).metrics);
}

TEST_F(TrainerTest, StopsBetweenTwoStepsWithACheckpointAndResumesFromThere) {
  const Outcome whole = train("whole", small_config());
  stop_after(7, "stopped");
  EXPECT_TRUE(
      std::filesystem::exists(folder_ / "stopped" / "checkpoints" / "affine" / "step-00000007"));
  EXPECT_TRUE(torch::equal(train("stopped", small_config()).weights, whole.weights));
}

TEST_F(TrainerTest, PlateausAndTheBestAreRememberedOverStopsWhateverTheWorkers) {
  TrainConfig config = small_config();
  config.plateau = {.patience = 1, .threshold = 0.9, .max_reductions = 2};
  config.save_every = 1000;
  const Outcome whole = train("whole", config);
  double least = 1;
  for (const std::string& line : whole.metrics)
    if (const auto json = nlohmann::json::parse(line); json.contains("lr"))
      least = json.at("lr").get<double>();
  EXPECT_LT(least, 0.6 * config.learning_rate);  // it was cut
  for (const int64_t cut : {5, 7, 13, 18, 23}) {
    const std::string name = fmt::format("cut-{}", cut);
    const RunFolder run(folder_ / name);
    for (const int64_t stop_after : {cut, int64_t{-1}}) {
      AffineTask task;
      task.stop_after = stop_after;
      const StopSignal stop;
      Trainer trainer(task, config, run,
                      {.data_workers = stop_after < 0 ? 5 : 1, .matmul_flops = kAnyRate});
      trainer.run(stop);
      if (stop_after < 0) {
        EXPECT_TRUE(torch::equal(all_weights(task), whole.weights)) << name;
      }
    }
    EXPECT_EQ(metrics_of(run.root), whole.metrics) << name;
    EXPECT_EQ(best_checkpoint(run.checkpoints("affine"))->filename(),
              best_checkpoint(RunPaths(folder_ / "whole").checkpoints("affine"))->filename())
        << name;
  }
}

TEST_F(TrainerTest, AStopSkipsTheRestOfAStepWhichIsRedoneLater) {
  TrainConfig config = small_config();
  config.micro_batch_size = 2;
  const Outcome whole = train("whole", config);
  for (const int64_t step : {1, 9, 24}) {
    const std::string name = fmt::format("step-{}", step);
    {
      const RunFolder run(folder_ / name);
      AffineTask task;
      task.stop_after = step;  // asked within its first micro-batch of six
      const StopSignal stop;
      Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
      EXPECT_EQ(trainer.run(stop), TrainOutcome::kStopped);
      EXPECT_EQ(trainer.step(), step - 1);
      EXPECT_EQ(task.seen.size(), static_cast<size_t>((step - 1) * config.batch_size + 2));
      const auto saved = checkpoints_in(run.checkpoints("affine"));
      ASSERT_FALSE(saved.empty()) << name;  // of a run that has made no step yet, too
      verify_checkpoint(saved[0]);
      EXPECT_EQ(saved[0].filename(), fmt::format("step-{:08d}", step - 1));
    }
    const Outcome resumed = train(name, config);
    EXPECT_TRUE(torch::equal(resumed.weights, whole.weights)) << name;
    EXPECT_EQ(resumed.metrics, whole.metrics) << name;
  }
}

TEST_F(TrainerTest, AskedToStopBeforeItBeginsItMakesNoStep) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = small_config();
  AffineTask task;
  const StopSignal stop;
  Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
  std::raise(SIGTERM);
  EXPECT_EQ(trainer.run(stop), TrainOutcome::kStopped);
  EXPECT_EQ(trainer.step(), 0);
}

}  // namespace
}  // namespace dalle
