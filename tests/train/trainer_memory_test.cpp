#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "counting_allocator.h"
#include "optim/gradient_norm.h"
#include "ranks.h"
#include "temporary_directory.h"
#include "train/trainer.h"

namespace dalle {
namespace {

constexpr int64_t kParameters = 64, kSize = 50'000;  // no multiple of a block
constexpr int64_t kModelBytes = kParameters * kSize * 4;
constexpr int64_t kWorld = 4;
/// For what does not grow with the model: copies of a few buckets, batches, losses.
constexpr int64_t kAllowance = 3 << 20;

/// A float64 copy of the gradient that a rank owns; of larger models there is a piece at a time.
constexpr int64_t kNormBytes =
    std::min(kNormBlocksAtOnce * kNormBlock * 8, 2 * kModelBytes / kWorld);

/// Takes 13 MB for its parameters and next to nothing for all else.
struct Wide : torch::nn::Module {
  Wide() {
    for (int64_t i = 0; i < kParameters; ++i)
      weights.push_back(
          register_parameter("weight_" + std::to_string(i), torch::full({kSize}, 0.5)));
  }
  std::vector<at::Tensor> weights;
};

class WideTask : public TrainTask {
 public:
  WideTask() : TrainTask({.name = "wide", .flops_per_sample = 1}) {}

  torch::nn::Module& module() override { return module_; }
  Sample sample(int64_t position) const override {
    Sample sample;
    sample.position = position;
    sample.codes = torch::full({1}, position, torch::kInt64);
    return sample;
  }
  TaskLoss loss(const Batch& micro_batch, const LossContext& context) override {
    if (before_loss) before_loss();
    auto sum = torch::zeros({});
    for (const at::Tensor& weight : module_.weights) sum = sum + weight.mean();
    const auto target = micro_batch.codes.to(torch::kFloat32).mean() / 100;
    return {.total = (sum - target).square() / static_cast<double>(context.counts.samples),
            .parts = {}};
  }
  std::optional<EvaluationPart> evaluate(int64_t, const RankShare&) override {
    return std::nullopt;
  }
  Evaluation summarize(int64_t, const EvaluationTotals&) const override { return {}; }
  ImageGroups sample_images(int64_t, const RankShare&) override { return {}; }
  void add_to_checkpoint(CheckpointContent&) const override {}

  std::function<void()> before_loss;

 private:
  Wide module_;
};

/// The peaks of each rank's memory in a run.
struct Peaks {
  int64_t construction = 0;  ///< and restoring
  int64_t steps = 0;         ///< and evaluations, and sample images, before any save
  int64_t save = 0;
};

/// Trains two steps on each rank from wherever the run is, and saves.
std::array<Peaks, kWorld> train(const RunPaths& run, int64_t steps,
                                const DistributedConfig& distributed) {
  TrainConfig config;
  config.steps = steps;
  config.batch_size = 8;
  config.micro_batch_size = 1;
  config.learning_rate = 0.01;
  config.eval_every = 1;
  config.keep_best = false;
  std::array<Peaks, kWorld> peaks;
  std::array<BytesInUse, kWorld> bytes;
  {
    const CountingAllocator allocator;
    const StopSignal stop;
    on_ranks(kWorld, [&](ProcessGroup& group) {
      const auto rank = static_cast<size_t>(group.rank());
      Peaks& peak = peaks[rank];
      counted_bytes = &bytes[rank];
      {
        WideTask task;
        EXPECT_EQ(bytes[rank].now(), kModelBytes);
        Trainer trainer(task, config, RunPaths(run.root, group.rank()),
                        {.group = {&group, [](ProcessGroup*) {}},
                         .distributed = distributed,
                         .data_workers = 1,
                         .prefetch = 1,
                         .matmul_flops = 1e9});
        peak.construction = bytes[rank].peak();
        bytes[rank].forget_peak();
        int64_t losses = 0;  // of two a step
        task.before_loss = [&] {
          if (++losses == 4) peak.steps = bytes[rank].peak();
        };
        EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
        peak.save = bytes[rank].peak();
      }
      counted_bytes = nullptr;
    });
  }
  for (const BytesInUse& rank : bytes) EXPECT_EQ(rank.now(), 0);
  return peaks;
}

TEST(TrainerMemory, StaysAtTwoCopiesOfTheWeightsAndAShardOfTheOptimizer) {
  const TemporaryDirectory folder;
  const RunFolder run(folder / "run");
  const DistributedConfig distributed{.bucket_mb = 0.2, .shard_optimizer = true};
  constexpr int64_t kResident = 2 * kModelBytes + 3 * kModelBytes / kWorld;
  for (const int64_t steps : {2, 4}) {  // a new run, then one that resumes
    const auto peaks = train(run, steps, distributed);
    for (size_t rank = 0; rank < peaks.size(); ++rank) {
      // The first rank reads one state of a checkpoint at a time.
      const int64_t read = steps > 2 && rank == 0 ? kModelBytes : 0;
      const int64_t saved = kModelBytes;  // each writes one of four states
      EXPECT_LE(peaks[rank].construction, kResident + read + kAllowance) << rank;
      EXPECT_LE(peaks[rank].steps, kResident + kNormBytes + kAllowance) << rank;
      EXPECT_LE(peaks[rank].save, kResident + saved + kAllowance) << rank;
      EXPECT_GE(peaks[rank].steps, kResident) << rank;
    }
  }
}

}  // namespace
}  // namespace dalle
