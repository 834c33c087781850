#include "dalle/train/trainer.h"

#include <atomic>
#include <cmath>
#include <csignal>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "dalle/core/error.h"
#include "dalle/core/files.h"
#include "dalle/core/seeds.h"

#include "error_of.h"
#include "ranks.h"
#include "temporary_directory.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::HasSubstr;

constexpr double kAnyRate = 1e9;  // not measured: that would take longer than the training

struct Affine : torch::nn::Module {
  Affine() {
    weight = register_parameter("weight", torch::full({4}, 0.5));
    bias = register_parameter("bias", torch::zeros({1}));
  }
  at::Tensor weight, bias;
};

/// Learns y = sum of x from noisy samples that are a function of their position: a whole stage in
/// miniature.
class AffineTask : public TrainTask {
 public:
  std::string stage() const override { return "affine"; }
  torch::nn::Module& module() override { return module_; }

  Sample sample(int64_t position) const override {
    note_event();
    SeedStream random(derive_seed(7, SeedPurpose::kCrop, static_cast<uint64_t>(position)));
    Sample sample;
    sample.position = position;
    sample.codes = torch::zeros({5}, torch::kInt64);
    for (int64_t i = 0; i < 5; ++i) sample.codes[i] = static_cast<int64_t>(random.below(1000));
    return sample;
  }

  bool is_hidden_matrix(const std::string&) const override { return false; }
  BatchTotals count(const Batch& batch) const override { return {.samples = batch.size()}; }

  TaskLoss loss(const Batch& micro_batch, const BatchTotals& totals, int64_t step) override {
    note_event();
    for (const int64_t position : micro_batch.positions) seen.push_back(position);
    if (step + 1 == stop_after) {
      stop_after = -1;  // a second signal would end the process
      std::raise(SIGTERM);
    }
    if (step == flip_a_bit_in) {
      module_.weight.detach().view(torch::kInt)[1].bitwise_xor_(1);
      flip_a_bit_in = -1;
    }
    const auto values = micro_batch.codes.to(torch::kFloat32) / 1000;  // [B, 5]
    const auto prediction = values.slice(1, 0, 4).matmul(module_.weight) + module_.bias;
    const auto target = values.slice(1, 0, 4).sum(1) + 0.01 * values.select(1, 4);
    auto total = (prediction - target).square().sum() / static_cast<double>(totals.samples);
    if (bad_steps.contains(step)) total = total * std::numeric_limits<double>::quiet_NaN();
    return {.total = total,
            .parts = {{"error", (prediction - target).abs().sum() / totals.samples}}};
  }

  Evaluation evaluate(int64_t step, const CheckStop& check_stop) override {
    for (int batch = 0; batch < 3; ++batch) {
      note_event();
      if (batch == 1 && step == stop_in_evaluation_of) std::raise(SIGTERM);
      check_stop();
    }
    evaluated_weights.push_back(module_.weight.detach().clone());
    return {.score = module_.bias.abs().item<double>(),
            .metrics = {{"validation_bias", module_.bias.item<double>()}}};
  }

  int64_t picture_every() const override { return 8; }
  std::vector<NamedPicture> pictures(int64_t step, const CheckStop& check_stop) override {
    for (int token = 0; token < 3; ++token) {
      note_event();
      if (token == 1 && step == stop_in_pictures_of) std::raise(SIGTERM);
      check_stop();
    }
    return {{"grey", {.width = 1, .height = 1, .pixels = {127, 127, 127}}}};
  }
  void add_to_checkpoint(CheckpointContent& content) const override {
    note_event();
    content.files["note.txt"] = "affine";
  }
  double flops_per_sample() const override { return 100; }

  std::set<int64_t> bad_steps;
  int64_t stop_after = -1;     ///< the step in which the process is asked to stop
  int64_t stop_at_event = -1;  ///< the call of this task in which the process is asked to stop
  int64_t stop_in_evaluation_of = -1;  ///< step
  int64_t stop_in_pictures_of = -1;    ///< step
  int64_t flip_a_bit_in = -1;
  std::vector<int64_t> seen;
  std::vector<at::Tensor> evaluated_weights;

 private:
  void note_event() const {
    if (++events_ == stop_at_event) std::raise(SIGTERM);
  }

  Affine module_;
  mutable std::atomic<int64_t> events_ = 0;
};

TrainConfig small_config() {
  TrainConfig config;
  config.steps = 24;
  config.batch_size = 12;
  config.learning_rate = 0.05;
  config.warmup_steps = 3;
  config.weight_decay = 0.01;
  config.clip_norm = 1.0;
  config.average_decay = 0.9;
  config.average_every = 2;
  config.max_skipped_steps = 2;
  config.log_every = 5;
  config.eval_every = 6;
  config.save_every = 4;
  config.keep_last = 2;
  return config;
}

at::Tensor all_weights(TrainTask& task) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : task.module().parameters())
    parts.push_back(parameter.detach().flatten());
  return torch::cat(parts).clone();
}

/// Metrics without the times, which differ from run to run.
std::vector<std::string> metrics_of(const std::filesystem::path& run) {
  std::vector<std::string> lines;
  std::istringstream text(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    auto json = nlohmann::ordered_json::parse(line);
    json.erase("time");
    lines.push_back(json.dump());
  }
  return lines;
}

class TrainerTest : public testing::Test {
 protected:
  struct Outcome {
    at::Tensor weights;
    std::vector<std::string> metrics;
  };

  /// Trains to the end in one go.
  Outcome train(const std::string& name, const TrainConfig& config, AffineTask& task) {
    const RunFolder run(folder_ / name);
    const StopSignal stop;
    Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
    return {all_weights(task), metrics_of(run.root)};
  }

  Outcome train(const std::string& name, const TrainConfig& config) {
    AffineTask task;
    return train(name, config, task);
  }

  /// Trains until the process is asked to stop in step `step`.
  void stop_after(int64_t step, const std::string& name) {
    AffineTask task;
    task.stop_after = step;
    const RunFolder run(folder_ / name);
    const StopSignal stop;
    const TrainConfig config = small_config();
    Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kStopped);
    EXPECT_EQ(trainer.step(), step);
  }

  static TrainConfig config_of_ranks() {
    TrainConfig config = small_config();
    config.batch_size = 16;
    config.micro_batch_size = 2;
    return config;
  }

  static std::shared_ptr<ProcessGroup> borrowed(ProcessGroup& group) {
    return {&group, [](ProcessGroup*) {}};
  }

  /// Trains on ranks that are threads, until the end or until one of them is asked to stop.
  Outcome train_on_ranks(int64_t world, const std::string& name,
                         const DistributedConfig& distributed, int64_t stop_after = -1) {
    const RunFolder run(folder_ / name);
    const TrainConfig config = config_of_ranks();
    const StopSignal stop;
    std::vector<AffineTask> tasks(static_cast<size_t>(world));
    tasks.back().stop_after = stop_after;
    on_ranks(world, [&](ProcessGroup& group) {
      AffineTask& task = tasks[static_cast<size_t>(group.rank())];
      Trainer trainer(
          task, config, RunPaths(run.root, group.rank()),
          {.group = borrowed(group), .distributed = distributed, .matrix_rate = kAnyRate});
      EXPECT_EQ(trainer.run(stop),
                stop_after < 0 ? TrainOutcome::kFinished : TrainOutcome::kStopped);
    });
    for (AffineTask& task : tasks)
      EXPECT_TRUE(torch::equal(all_weights(task), all_weights(tasks[0])));
    return {all_weights(tasks[0]), metrics_of(run.root)};
  }

  const TemporaryDirectory folder_;
};

TEST_F(TrainerTest, Learns) {
  TrainConfig config = small_config();
  config.steps = 400;
  AffineTask task;
  const Outcome outcome = train("run", config, task);
  EXPECT_TRUE(torch::allclose(outcome.weights.slice(0, 0, 4), torch::ones({4}), 0, 0.1))
      << outcome.weights;
}

TEST_F(TrainerTest, UsesEverySampleOnceAndInOrder) {
  AffineTask task;
  train("run", small_config(), task);
  ASSERT_EQ(task.seen.size(), 24u * 12);
  for (size_t i = 0; i < task.seen.size(); ++i) ASSERT_EQ(task.seen[i], static_cast<int64_t>(i));
}

TEST_F(TrainerTest, AnyCutIntoMicroBatchesGivesTheSameWeightsWithinRounding) {
  const Outcome whole = train("whole", small_config());
  for (const int64_t micro_batch_size : {1, 3, 4, 6}) {
    TrainConfig config = small_config();
    config.micro_batch_size = micro_batch_size;
    const Outcome cut = train("cut-" + std::to_string(micro_batch_size), config);
    EXPECT_TRUE(torch::allclose(cut.weights, whole.weights, 1e-5, 1e-6)) << micro_batch_size;
  }
}

TEST_F(TrainerTest, ResumedEqualsUninterruptedBitForBit) {
  const Outcome whole = train("whole", small_config());
  for (const bool killed : {false, true})
    for (int64_t cut = 1; cut < 24; ++cut) {
      const std::string name = fmt::format("{}-{}", killed ? "killed" : "stopped", cut);
      stop_after(cut, name);
      if (killed && cut % small_config().save_every != 0)  // then its last step was never saved
        std::filesystem::remove_all(folder_ / name / "checkpoints" / "affine" /
                                    fmt::format("step-{:08d}", cut));
      const Outcome resumed = train(name, small_config());
      EXPECT_TRUE(torch::equal(resumed.weights, whole.weights)) << name;
      EXPECT_EQ(resumed.metrics, whole.metrics) << name;
    }
}

TEST_F(TrainerTest, AskedToStopAtAnyInstantItSavesItsStepAndGoesOnBitForBit) {
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
      Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
      stopped = trainer.run(stop) == TrainOutcome::kStopped;
      const auto saved = checkpoints_in(run.checkpoints("affine"));
      ASSERT_FALSE(saved.empty()) << name;
      verify_checkpoint(saved[0]);
      EXPECT_EQ(saved[0].filename(), fmt::format("step-{:08d}", trainer.step())) << name;
    }
    const TrainConfig config = small_config();
    AffineTask resumed;
    const StopSignal stop;
    Trainer trainer(resumed, config, run, {.matrix_rate = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished) << name;
    EXPECT_TRUE(torch::equal(all_weights(resumed), whole.weights)) << name;
    EXPECT_EQ(metrics_of(run.root), whole.metrics) << name;
  }
  EXPECT_GT(instants, 300);
}

TEST_F(TrainerTest, AStopBreaksOffAnEvaluationWhichIsMadeLater) {
  const Outcome whole = train("whole", small_config());
  const RunFolder run(folder_ / "run");
  const TrainConfig config = small_config();
  {
    AffineTask task;
    const StopSignal stop;
    task.stop_in_evaluation_of = 6;
    Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kStopped);
    EXPECT_EQ(trainer.step(), 6);
    EXPECT_TRUE(task.evaluated_weights.empty());
  }
  AffineTask task;
  const StopSignal stop;
  Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
  EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
  EXPECT_EQ(task.evaluated_weights.size(), 4u);
  EXPECT_EQ(metrics_of(run.root), whole.metrics);
}

TEST_F(TrainerTest, WhatAResumedRunMakesUpForIsSaved) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = small_config();
  const auto go_on = [&](int64_t stop_in_evaluation_of, int64_t stop_in_pictures_of) {
    AffineTask task;
    task.stop_in_evaluation_of = stop_in_evaluation_of;
    task.stop_in_pictures_of = stop_in_pictures_of;
    const StopSignal stop;
    Trainer(task, config, run, {.matrix_rate = kAnyRate}).run(stop);
    return task.evaluated_weights.size();
  };
  go_on(/*stop_in_evaluation_of=*/24, -1);
  EXPECT_EQ(go_on(-1, /*stop_in_pictures_of=*/24), 1u);
  EXPECT_EQ(go_on(-1, -1), 0u);  // the evaluation was kept
  const auto newest = read_newest_checkpoint(run.checkpoints("affine"));
  EXPECT_TRUE(
      TrainerState::from_json(newest->files.at("trainer.json"), "test").finished(config.steps));
  EXPECT_EQ(metrics_of(run.root), train("whole", config).metrics);
}

TEST_F(TrainerTest, RanksThatWereStoppedInTheirLastEvaluationMakeUpForItAndEnd) {
  const DistributedConfig exact{.exact = true};
  const Outcome whole = train_on_ranks(2, "whole", exact);
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  for (const TrainOutcome expected : {TrainOutcome::kStopped, TrainOutcome::kFinished}) {
    std::vector<AffineTask> tasks(2);
    if (expected == TrainOutcome::kStopped) tasks[0].stop_in_evaluation_of = config.steps;
    const StopSignal stop;
    on_ranks(2, [&](ProcessGroup& group) {
      Trainer trainer(tasks[static_cast<size_t>(group.rank())], config,
                      RunPaths(run.root, group.rank()),
                      {.group = borrowed(group), .distributed = exact, .matrix_rate = kAnyRate});
      EXPECT_EQ(trainer.run(stop), expected);
      EXPECT_EQ(trainer.step(), config.steps);
    });
  }
  EXPECT_EQ(metrics_of(run.root), whole.metrics);
}

TEST_F(TrainerTest, SavesWhenSoManyMinutesHavePassed) {
  TrainConfig config = small_config();
  config.save_every = 1000;
  config.save_every_minutes = 1e-9;  // after every step
  config.keep_last = 100;
  train("run", config);
  const RunFolder run(folder_ / "run");
  EXPECT_EQ(checkpoints_in(run.checkpoints("affine")).size(), 24u);
}

TEST_F(TrainerTest, WorkersAndPrefetchChangeNothing) {
  const Outcome one = train("one", small_config());
  AffineTask task;
  const RunFolder run(folder_ / "many");
  const StopSignal stop;
  const TrainConfig config = small_config();
  Trainer trainer(task, config, run, {.data_workers = 5, .prefetch = 1, .matrix_rate = kAnyRate});
  trainer.run(stop);
  EXPECT_TRUE(torch::equal(all_weights(task), one.weights));
}

TEST_F(TrainerTest, ExactTrainingGivesTheSameBitsOnAnyNumberOfRanks) {
  for (const bool shard : {false, true}) {
    const DistributedConfig exact{.shard_optimizer = shard, .exact = true};
    const Outcome one = train_on_ranks(1, "one", exact);
    for (const int64_t world : {2, 4, 8}) {
      const std::string name = fmt::format("{}-{}", world, shard);
      const Outcome many = train_on_ranks(world, name, exact);
      EXPECT_TRUE(torch::equal(many.weights, one.weights)) << name;
      EXPECT_EQ(many.metrics, one.metrics) << name;
    }
    std::filesystem::remove_all(folder_ / "one");
  }
}

TEST_F(TrainerTest, ExactTrainingGoesOnBitForBitWithAnotherNumberOfRanks) {
  const DistributedConfig exact{.exact = true}, sharded{.shard_optimizer = true, .exact = true};
  const Outcome whole = train_on_ranks(1, "whole", exact);
  train_on_ranks(4, "resized", sharded, /*stop_after=*/6);
  train_on_ranks(1, "resized", exact, /*stop_after=*/9);
  train_on_ranks(2, "resized", exact, /*stop_after=*/17);
  const Outcome resized = train_on_ranks(8, "resized", sharded);
  EXPECT_TRUE(torch::equal(resized.weights, whole.weights));
  EXPECT_EQ(resized.metrics, whole.metrics);
}

TEST_F(TrainerTest, AnyNumberOfRanksGivesTheSameWithinRounding) {
  const Outcome one = train_on_ranks(1, "one", {});
  for (const int64_t world : {2, 3, 4})
    for (const bool shard : {false, true}) {
      const std::string name = fmt::format("{}-{}", world, shard);
      const Outcome many = train_on_ranks(world, name, {.shard_optimizer = shard});
      EXPECT_TRUE(torch::allclose(many.weights, one.weights, 1e-5, 1e-6)) << name;
    }
}

TEST_F(TrainerTest, AFlippedBitInTheWeightsOfOneRankIsReportedByName) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  const StopSignal stop;
  std::vector<AffineTask> tasks(4);
  tasks[2].flip_a_bit_in = 7;
  on_ranks(4, [&](ProcessGroup& group) {
    AffineTask& task = tasks[static_cast<size_t>(group.rank())];
    Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                    {.group = borrowed(group), .distributed = {.check_replicas_every = 3}});
    EXPECT_THAT(error_of([&] { trainer.run(stop); }), HasSubstr("rank 2 has another weight"));
    EXPECT_EQ(trainer.step(), 8);  // compared in the ninth update, which does not count
  });
}

TEST_F(TrainerTest, ExactTrainingSaysHowManyRanksItCanUse) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  on_ranks(3, [&](ProcessGroup& group) {
    AffineTask own;
    const RunPaths paths(folder_ / "run", group.rank());
    EXPECT_THAT(error_of([&] {
                  Trainer(own, config, paths,
                          {.group = borrowed(group), .distributed = {.exact = true}});
                }),
                HasSubstr("distributed.exact: found 3 ranks, expected a power of two up to 8"));
  });
}

TEST_F(TrainerTest, StopsBetweenTwoStepsWithACheckpointAndGoesOnFromThere) {
  const Outcome whole = train("whole", small_config());
  stop_after(7, "stopped");
  EXPECT_TRUE(
      std::filesystem::exists(folder_ / "stopped" / "checkpoints" / "affine" / "step-00000007"));
  EXPECT_TRUE(torch::equal(train("stopped", small_config()).weights, whole.weights));
}

TEST_F(TrainerTest, AFinishedRunIsNotTrainedAgain) {
  train("run", small_config());
  AffineTask task;
  train("run", small_config(), task);
  EXPECT_TRUE(task.seen.empty());
}

TEST_F(TrainerTest, EvaluatesWithAveragedWeights) {
  AffineTask task;
  const Outcome outcome = train("run", small_config(), task);
  ASSERT_EQ(task.evaluated_weights.size(), 4u);
  EXPECT_FALSE(torch::equal(task.evaluated_weights.back(), outcome.weights.slice(0, 0, 4)));
  const RunFolder run(folder_ / "run");
  const auto saved = CheckpointStore(run.checkpoints("affine"), 2).load_newest();
  for (const auto& [name, tensor] : saved->tensors.at("average"))
    if (name == "weight") {
      EXPECT_TRUE(torch::equal(tensor, task.evaluated_weights.back()));
    }
}

TEST_F(TrainerTest, ABadStepTouchesNothing) {
  // Without the bad step's batch the run is the same as one that never saw it, but for the
  // schedule's step.
  TrainConfig config = small_config();
  config.warmup_steps = 0;
  config.steps = 1;
  AffineTask before;
  const Outcome first = train("first", config, before);
  config.steps = 2;
  AffineTask bad;
  bad.bad_steps = {1};
  const Outcome second = train("second", config, bad);
  EXPECT_TRUE(torch::equal(first.weights, second.weights));
  const RunFolder one(folder_ / "first"), two(folder_ / "second");
  const auto saved_first = CheckpointStore(one.checkpoints("affine"), 2).load_newest();
  const auto saved_second = CheckpointStore(two.checkpoints("affine"), 2).load_newest();
  for (const char* file : {"weights", "average", "first_moment", "second_moment"})
    for (size_t i = 0; i < 2; ++i)
      EXPECT_TRUE(torch::equal(saved_first->tensors.at(file)[i].second,
                               saved_second->tensors.at(file)[i].second))
          << file;
}

TEST_F(TrainerTest, TooManyBadStepsInARowEndTheRunAndNameTheCulprit) {
  AffineTask task;
  task.bad_steps = {3, 4, 6, 7, 8};
  const RunFolder run(folder_ / "run");
  const StopSignal stop;
  const TrainConfig config = small_config();
  Trainer trainer(task, config, run, {.matrix_rate = kAnyRate});
  try {
    trainer.run(stop);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(
        error.what(),
        HasSubstr("affine: step 9: 3 steps in a row were skipped, the last because loss is nan"));
  }
}

TEST_F(TrainerTest, ClipsTheGradientsNorm) {
  TrainConfig config = small_config();
  config.clip_norm = 1e-12;  // as good as no gradient: AdamW's epsilon then rules
  config.weight_decay = 0;
  config.epsilon = 1.0;
  const Outcome outcome = train("run", config);
  EXPECT_TRUE(
      torch::allclose(outcome.weights, torch::tensor({0.5F, 0.5F, 0.5F, 0.5F, 0.0F}), 0, 1e-6));
}

TEST_F(TrainerTest, ADamagedCheckpointFallsBackToTheOneBefore) {
  const Outcome whole = train("run", small_config());
  std::filesystem::path newest;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder_ / "run" / "checkpoints" / "affine"))
    if (entry.is_directory() && entry.path() > newest) newest = entry.path();
  std::string bytes = read_file(newest / "weights.safetensors");
  bytes.back() ^= 1;
  write_file_atomically(newest / "weights.safetensors", bytes);
  AffineTask task;
  const Outcome again = train("run", small_config(), task);
  EXPECT_EQ(task.seen.size(), 4u * 12);  // from step 20 on
  EXPECT_TRUE(torch::equal(again.weights, whole.weights));
  EXPECT_EQ(again.metrics, whole.metrics);
}

}  // namespace
}  // namespace dalle
