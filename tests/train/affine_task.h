#pragma once

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "checkpoint/checkpoint_files.h"
#include "core/files.h"
#include "core/seeds.h"
#include "ranks.h"
#include "temporary_directory.h"
#include "train/trainer.h"

#include <nlohmann/json.hpp>

namespace dalle {

inline constexpr double kAnyRate = 1e9;  // not measured: that would take longer than the training

struct Affine : torch::nn::Module {
  Affine() {
    weight = register_parameter("weight", torch::full({4}, 0.5));
    bias = register_parameter("bias", torch::zeros({1}));
  }
  at::Tensor weight, bias;
};

/// Learns y = sum of x from noisy samples that are a function of their position: a complete stage
/// in miniature.
class AffineTask : public TrainTask {
 public:
  AffineTask()
      : TrainTask({.name = "affine",
                   .sample_every = 8,
                   .sample_every_key = "affine.train.eval_every",
                   .sample_name = "grey",
                   .flops_per_sample = 100}) {}

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

  TaskLoss loss(const Batch& micro_batch, const LossContext& context) override {
    const int64_t step = context.step;
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
    auto total = (prediction - target).square().sum() / static_cast<double>(context.counts.samples);
    if (bad_steps.contains(step)) total = total * std::numeric_limits<double>::quiet_NaN();
    return {.total = total,
            .parts = {{"error", (prediction - target).abs().sum() / context.counts.samples}}};
  }

  void after_update(const LossContext&) override {
    const torch::NoGradGuard no_grad;
    module_.weight.clamp_max_(weight_limit);
  }

  std::optional<EvaluationPart> evaluate(int64_t step, const RankShare& share) override {
    EvaluationPart part;
    for (int64_t batch = 0; batch < 3; ++batch) {
      if (!share.has(batch)) continue;
      note_event();
      if (batch > 0 && step == stop_in_evaluation_of) std::raise(SIGTERM);
      share.check_stop();
      const double bias = module_.bias.item<double>();
      part.batches[batch].add("bias", bias, 1);
      part.batches[batch].add("noise", (1 + bias) / static_cast<double>(7 + batch), 5 - batch);
    }
    if (in_evaluation) in_evaluation(share);
    part.histogram = {share.rank == 0 ? 3 : 0};
    evaluated_weights.push_back(module_.weight.detach().clone());
    return part;
  }

  Evaluation summarize(int64_t, const EvaluationTotals& totals) const override {
    return {.score = std::abs(totals.means.mean("bias")),
            .metrics = {{"validation_bias", totals.means.mean("bias")},
                        {"validation_noise", totals.means.mean("noise")},
                        {"validation_batches", static_cast<double>(totals.histogram[0])}}};
  }

  /// Pixels that depend on the weights and on the group.
  ImageGroups sample_images(int64_t step, const RankShare& share) override {
    ImageGroups groups;
    for (int64_t group = 0; group < 3; ++group) {
      if (!share.has(group)) continue;
      note_event();
      if (group == 1 && step == stop_in_images_of) std::raise(SIGTERM);
      share.check_stop();
      const auto level = static_cast<uint8_t>(
          80 * group + static_cast<int64_t>(1e6 * module_.bias.abs().item<double>()) % 80);
      groups[group] = {{.width = 1, .height = 1, .pixels = {level, 127, 127}}};
    }
    if (before_images) before_images(step);
    return groups;
  }

  void add_to_checkpoint(CheckpointContent& content) const override {
    note_event();
    content.files["note.txt"] = "affine";
    if (!tokenizer.empty()) content.files[kTokenizerFile] = tokenizer;
  }

  std::string tokenizer;  ///< its file in the checkpoint; empty: none
  std::set<int64_t> bad_steps;
  int64_t stop_after = -1;     ///< the step in which the process is asked to stop
  int64_t stop_at_event = -1;  ///< the call of this task in which the process is asked to stop
  int64_t stop_in_evaluation_of = -1;  ///< step
  int64_t stop_in_images_of = -1;      ///< step
  int64_t flip_a_bit_in = -1;
  double weight_limit = std::numeric_limits<double>::infinity();
  std::function<void(int64_t step)> before_images;
  std::function<void(const RankShare& share)> in_evaluation;
  std::vector<int64_t> seen;
  std::vector<at::Tensor> evaluated_weights;

 private:
  void note_event() const {
    if (++events_ == stop_at_event) std::raise(SIGTERM);
  }

  Affine module_;
  mutable std::atomic<int64_t> events_ = 0;
};

inline TrainConfig small_config() {
  TrainConfig config;
  config.steps = 24;
  config.batch_size = 12;
  config.learning_rate = 0.05;
  config.warmup_steps = 3;
  config.weight_decay = 0.01;
  config.max_grad_norm = 1.0;
  config.ema_decay = 0.9;
  config.ema_every = 2;
  config.max_skipped_steps = 2;
  config.log_every = 5;
  config.eval_every = 6;
  config.save_every = 4;
  config.keep_last = 2;
  return config;
}

inline at::Tensor all_weights(TrainTask& task) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : task.module().parameters())
    parts.push_back(parameter.detach().flatten());
  return torch::cat(parts).clone();
}

/// Metrics without the times, which differ from run to run.
inline std::vector<std::string> metrics_of(const std::filesystem::path& run) {
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
    Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
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
    Trainer trainer(task, config, run, {.matmul_flops = kAnyRate});
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
    for (AffineTask& task : tasks) task.weight_limit = weight_limit_;
    on_ranks(world, [&](ProcessGroup& group) {
      AffineTask& task = tasks[static_cast<size_t>(group.rank())];
      Trainer trainer(
          task, config, RunPaths(run.root, group.rank()),
          {.group = borrowed(group), .distributed = distributed, .matmul_flops = kAnyRate});
      EXPECT_EQ(trainer.run(stop),
                stop_after < 0 ? TrainOutcome::kFinished : TrainOutcome::kStopped);
    });
    for (AffineTask& task : tasks)
      EXPECT_TRUE(torch::equal(all_weights(task), all_weights(tasks[0])));
    return {all_weights(tasks[0]), metrics_of(run.root)};
  }

  const TemporaryDirectory folder_;
  double weight_limit_ = std::numeric_limits<double>::infinity();  ///< of train_on_ranks()
};

}  // namespace dalle
