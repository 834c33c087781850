#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "core/error.h"
#include "core/files.h"
#include "error_of.h"
#include "optim/flat_parameters.h"
#include "parallel/replica_check.h"
#include "train/affine_task.h"

namespace dalle {
namespace {

using testing::HasSubstr;

TEST_F(TrainerTest, RanksThatWereStoppedInTheirLastEvaluationRedoItAndFinish) {
  const DistributedConfig exact{.bitwise = true};
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
                      {.group = borrowed(group), .distributed = exact, .matmul_flops = kAnyRate});
      EXPECT_EQ(trainer.run(stop), expected);
      EXPECT_EQ(trainer.step(), config.steps);
    });
  }
  EXPECT_EQ(metrics_of(run.root), whole.metrics);
}

TEST_F(TrainerTest, EvaluatesAndSamplesToTheSameBitsOnAnyNumberOfRanks) {
  const TrainConfig config = config_of_ranks();
  {
    AffineTask task;
    task.stop_in_evaluation_of = config.steps;  // which is left, with the images, to other ranks
    const RunFolder run(folder_ / "stopped");
    const StopSignal stop;
    Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
    ASSERT_EQ(trainer.run(stop), TrainOutcome::kStopped);
    ASSERT_EQ(trainer.step(), config.steps);
  }
  const std::string image = fmt::format("samples/affine/grey-{:08d}.png", config.steps);
  std::vector<std::string> metrics;
  std::string png;
  for (const int64_t world : {1, 2, 3, 5}) {
    const auto folder = folder_ / fmt::format("ranks-{}", world);
    std::filesystem::copy(folder_ / "stopped", folder, std::filesystem::copy_options::recursive);
    const RunFolder run(folder);
    const StopSignal stop;
    std::vector<AffineTask> tasks(static_cast<size_t>(world));
    on_ranks(world, [&](ProcessGroup& group) {
      AffineTask& task = tasks[static_cast<size_t>(group.rank())];
      Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                      {.group = borrowed(group), .matmul_flops = kAnyRate});
      const at::Tensor before = all_weights(task);
      EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
      EXPECT_TRUE(torch::equal(all_weights(task), before));  // no longer those of the EMA
    });
    for (const AffineTask& task : tasks) {
      ASSERT_EQ(task.evaluated_weights.size(), 1u);
      EXPECT_TRUE(torch::equal(task.evaluated_weights[0], tasks[0].evaluated_weights[0]));
    }
    if (world == 1) {
      metrics = metrics_of(folder);
      png = read_file(folder / image);
    }
    EXPECT_EQ(metrics_of(folder), metrics) << world;
    EXPECT_EQ(read_file(folder / image), png) << world;
  }
}

TEST_F(TrainerTest, AnErrorInARanksShareOfTheEvaluationEndsAllRanks) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  const StopSignal stop;
  std::vector<AffineTask> tasks(3);
  tasks[1].in_evaluation = [](const RankShare&) { throw Error("the disk is full"); };
  on_ranks(3, [&](ProcessGroup& group) {
    AffineTask& task = tasks[static_cast<size_t>(group.rank())];
    Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                    {.group = borrowed(group), .matmul_flops = kAnyRate});
    EXPECT_EQ(error_of([&] { trainer.run(stop); }),
              group.rank() == 1 ? "the disk is full" : "rank 1: the disk is full");
    EXPECT_EQ(trainer.step(), config.eval_every);
  });
}

TEST_F(TrainerTest, WithoutMemoryForTheSampleImagesOfOneRankAllContinueWithoutThem) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  const StopSignal stop;
  std::vector<AffineTask> tasks(3);
  tasks[2].before_images = [](int64_t step) {
    if (step == 8) throw std::bad_alloc();
  };
  on_ranks(3, [&](ProcessGroup& group) {
    AffineTask& task = tasks[static_cast<size_t>(group.rank())];
    Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                    {.group = borrowed(group), .matmul_flops = kAnyRate});
    EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
  });
  const auto samples = run.samples() / "affine";
  EXPECT_FALSE(std::filesystem::exists(samples / "grey-00000008.png"));
  EXPECT_TRUE(std::filesystem::exists(samples / "grey-00000016.png"));
}

TEST_F(TrainerTest, ExactTrainingGivesTheSameBitsOnAnyNumberOfRanks) {
  for (const bool shard : {false, true}) {
    const DistributedConfig exact{.shard_optimizer = shard, .bitwise = true};
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

TEST_F(TrainerTest, ExactTrainingResumesBitForBitOnADifferentNumberOfRanks) {
  const DistributedConfig exact{.bitwise = true}, sharded{.shard_optimizer = true, .bitwise = true};
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
                    {.group = borrowed(group),
                     .distributed = {.check_replicas_every = 3},
                     .matmul_flops = kAnyRate});
    EXPECT_THAT(error_of([&] { trainer.run(stop); }),
                HasSubstr("weight of rank 2 differs from the others'"));
    EXPECT_EQ(trainer.step(), 8);  // compared in the ninth update, which does not count
  });
}

TEST_F(TrainerTest, AFlippedBitIsReportedWhereRanksOwnShardsToo) {
  for (const size_t flipping : {0, 1, 2}) {
    const RunFolder run(folder_ / fmt::format("run-{}", flipping));
    const TrainConfig config = config_of_ranks();
    const StopSignal stop;
    std::vector<AffineTask> tasks(3);
    tasks[flipping].flip_a_bit_in = 7;
    on_ranks(3, [&](ProcessGroup& group) {
      AffineTask& task = tasks[static_cast<size_t>(group.rank())];
      Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                      {.group = borrowed(group),
                       .distributed = {.shard_optimizer = true, .check_replicas_every = 3},
                       .matmul_flops = kAnyRate});
      EXPECT_THAT(
          error_of([&] { trainer.run(stop); }),
          HasSubstr(fmt::format("the weights of rank {} were corrupted between two updates, "
                                "in weight;",
                                flipping)));
      EXPECT_EQ(trainer.step(), 7);
    });
  }
}

TEST(ReplicaCheck, NoticesTwoSwappedValues) {
  on_ranks(3, [](ProcessGroup& group) {
    const torch::NoGradGuard no_grad;
    Affine module;
    const FlatParameters parameters(module);
    const auto weight = parameters.slices()[0].view_of(parameters.values());
    weight.copy_(torch::arange(4));
    check_replicas(parameters, group);
    if (group.rank() == 1) weight.copy_(torch::tensor({0, 2, 1, 3}));
    EXPECT_THAT(error_of([&] { check_replicas(parameters, group); }),
                HasSubstr("weight of rank 1 differs from the others'"));
  });
}

TEST_F(TrainerTest, ATaskKeepsTheWeightsWithinBoundsOnEveryRank) {
  const auto largest = [](const Outcome& outcome) {  // of the four weights; the bias has no bound
    return outcome.weights.slice(0, 0, 4).max().item<float>();
  };
  EXPECT_GT(largest(train_on_ranks(2, "unbounded", {})), 0.7);
  weight_limit_ = 0.6;
  for (const bool shard_optimizer : {false, true}) {
    const Outcome outcome =
        train_on_ranks(2, fmt::format("bounded-{}", shard_optimizer),
                       {.shard_optimizer = shard_optimizer, .check_replicas_every = 3});
    EXPECT_EQ(largest(outcome), 0.6f);
  }
}

TEST_F(TrainerTest, ExactTrainingSaysHowManyRanksItCanUse) {
  const RunFolder run(folder_ / "run");
  const TrainConfig config = config_of_ranks();
  on_ranks(3, [&](ProcessGroup& group) {
    AffineTask own;
    const RunPaths paths(folder_ / "run", group.rank());
    EXPECT_THAT(error_of([&] {
                  Trainer(own, config, paths,
                          {.group = borrowed(group),
                           .distributed = {.bitwise = true},
                           .matmul_flops = kAnyRate});
                }),
                HasSubstr("distributed.bitwise: found 3 ranks, expected a power of two up to 8"));
  });
}

}  // namespace
}  // namespace dalle
