#include "experiment/stages/clip_task.h"

#include <cmath>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <torch/types.h>

#include "data/rank_slice.h"
#include "data/text/tokenizer.h"
#include "error_of.h"
#include "experiment/config/cost_estimate.h"
#include "ranks.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::HasSubstr;

constexpr int64_t kClipBatch = 8;
constexpr int64_t kClipTextVocab = 16384;

ExperimentConfig small_clip_experiment() {
  ExperimentConfig config = shapes_experiment();
  config.clip.emplace();
  config.clip->model = {.patch_size = 8,
                        .image_depth = 2,
                        .image_heads = 2,
                        .image_width = 16,
                        .text_depth = 1,
                        .text_heads = 2,
                        .text_width = 16,
                        .text_length = 16,
                        .embed_dim = 8};
  config.clip->train.batch_size = kClipBatch;
  return config;
}

class ClipTaskTest : public testing::Test {
 protected:
  ClipTaskTest() : config_(small_clip_experiment()), data_(config_, RunPaths(folder_.path())) {}

  ClipTask make_task() { return ClipTask(config_, data_, tokenizer_, c10::kCPU); }

  /// Two of its samples, on different ranks, have the same caption.
  static Batch global_batch(const TrainTask& task) {
    std::vector<Sample> samples;
    for (int64_t i = 0; i < kClipBatch; ++i) samples.push_back(task.sample(i));
    Batch batch = stack(samples);
    batch.texts[6] = batch.texts[1];
    return batch;
  }

  struct Result {
    double loss = 0;
    std::vector<double> parts = {0, 0};
    at::Tensor gradient;  ///< [P] float64
  };

  /// What the ranks' losses and gradients add up to, in float64.
  Result sum_over_ranks(int64_t world_size) {
    Result sum;
    std::mutex mutex;
    const auto body = [&](ProcessGroup& group) {
      ClipTask task = make_task();
      task.module().to(torch::kDouble);
      const Batch batch = global_batch(task);
      const RankSlice part(kClipBatch, group.rank(), group.world_size());
      const int64_t begin = part.position(0);
      const TaskLoss loss =
          task.loss(batch.slice(begin, begin + part.size()),
                    {.counts = {.samples = kClipBatch}, .step = 0, .group = group});
      loss.total.backward();
      std::vector<at::Tensor> gradients;
      for (const at::Tensor& parameter : task.module().parameters())
        gradients.push_back(parameter.grad().flatten());
      const std::lock_guard lock(mutex);
      sum.loss += loss.total.item<double>();
      for (size_t i = 0; i < 2; ++i) sum.parts[i] += loss.parts[i].second.item<double>();
      const auto gradient = torch::cat(gradients);
      sum.gradient = sum.gradient.defined() ? sum.gradient + gradient : gradient;
    };
    if (world_size == 1) {
      ProcessGroup alone;
      body(alone);
    } else {
      on_ranks(world_size, body);
    }
    return sum;
  }

  const TemporaryDirectory folder_;
  ExperimentConfig config_;
  ExperimentData data_;
  const Tokenizer tokenizer_{train_tokenizer(
      [n = 0]() mutable -> std::optional<std::string> {
        return n++ < 20 ? std::optional<std::string>("a small red circle on a white background")
                        : std::nullopt;
      },
      {.vocab_size = 300})};
};

TEST_F(ClipTaskTest, AnyNumberOfRanksHasTheLossAndGradientOfOne) {
  for (const bool same_caption_positive : {true, false}) {
    config_.clip->train.same_caption_positive = same_caption_positive;
    const Result one = sum_over_ranks(1);
    EXPECT_GT(one.gradient.abs().max().item<double>(), 1e-3);
    for (const int64_t world_size : {2, 3, 4}) {  // of three, one has a smaller part
      const Result many = sum_over_ranks(world_size);
      EXPECT_NEAR(many.loss, one.loss, 1e-12) << world_size;
      for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(many.parts[i], one.parts[i], 1e-12);
      EXPECT_TRUE(torch::allclose(many.gradient, one.gradient, 1e-9, 1e-12)) << world_size;
    }
  }
}

TEST_F(ClipTaskTest, EachRankComputesTheWholeLossAndReturnsItsPart) {
  const auto loss_of = [&](int64_t world_size) {
    std::vector<double> losses(static_cast<size_t>(world_size));
    const auto body = [&](ProcessGroup& group) {
      ClipTask task = make_task();
      const RankSlice part(kClipBatch, group.rank(), group.world_size());
      const int64_t begin = part.position(0);
      losses[static_cast<size_t>(group.rank())] =
          task.loss(global_batch(task).slice(begin, begin + part.size()),
                    {.counts = {.samples = kClipBatch}, .step = 0, .group = group})
              .total.item<double>();
    };
    on_ranks(world_size, body);
    EXPECT_THAT(losses, testing::Each(losses[0]));  // each rank computes the whole loss
    return losses[0] * static_cast<double>(world_size);
  };
  EXPECT_NEAR(loss_of(2), loss_of(4), 1e-5);
}

TEST_F(ClipTaskTest, SamplesWithTheSameCaptionArePartnersUnlessThatIsOff) {
  const double partners = sum_over_ranks(1).loss;
  config_.clip->train.same_caption_positive = false;
  EXPECT_GT(std::abs(sum_over_ranks(1).loss - partners), 1e-3);
}

TEST_F(ClipTaskTest, CaptionsAreEqualIfTheirTextsHaveTheSameTokensWithoutDropout) {
  config_.tokenizer.dropout = 0.5;
  ClipTask task = make_task();
  Batch batch = global_batch(task);
  ASSERT_FALSE(torch::equal(batch.captions[1], batch.captions[6]));
  const auto loss_of = [&](const Batch& of) {
    ProcessGroup alone;
    return task.loss(of, {.counts = {.samples = kClipBatch}, .step = 0, .group = alone})
        .total.item<double>();
  };
  const double equal = loss_of(batch);
  batch.texts[6] = "  " + batch.texts[1];  // the same tokens
  EXPECT_EQ(loss_of(batch), equal);
  batch.texts[6] = batch.texts[1] + " x";
  EXPECT_GT(std::abs(loss_of(batch) - equal), 1e-3);
}

TEST_F(ClipTaskTest, WeightDecayAppliesToWhatIsNeitherGainNorBiasNorScale) {
  ClipTask task = make_task();
  for (const auto& item : task.module().named_parameters())
    EXPECT_EQ(task.traits().decays(item.key()),
              item.value().dim() >= 2 || item.key() == "class_embedding")
        << item.key();
}

TEST_F(ClipTaskTest, AnUpdateLeavesTheScaleAtMost100) {
  ClipTask task = make_task();
  at::Tensor log_scale = task.module().named_parameters()["logit_scale"];
  log_scale.detach().fill_(7);
  ProcessGroup alone;
  task.after_update({.counts = {}, .step = 0, .group = alone});
  EXPECT_NEAR(log_scale.item<double>(), std::log(100), 1e-6);
}

TEST_F(ClipTaskTest, ARanksMicroBatchMustBeItsWholeShare) {
  TrainConfig train = config_.clip->train;
  for (const auto& [micro_batch_size, ranks] :
       {std::pair<int64_t, int64_t>{0, 1}, {8, 1}, {4, 2}, {3, 3}, {8, 4}}) {
    train.micro_batch_size = micro_batch_size;
    EXPECT_EQ(error_of([&, world = ranks] { check_whole_share(train, world); }), "no error")
        << ranks;
  }
  train.micro_batch_size = 2;
  EXPECT_THAT(error_of([&] { check_whole_share(train, 3); }),
              HasSubstr("clip.train.micro_batch_size: found 2, expected 0, or at least 3 for 3 "
                        "ranks, since the contrastive loss compares all samples"));
}

TEST(ClipCost, IsReportedIfTheConfigHasAContrastiveModel) {
  ExperimentConfig config = shapes_experiment();
  config.data.image_size = 224;
  EXPECT_THAT(cost_report(config), testing::Not(HasSubstr("contrastive model")));
  config.clip.emplace();
  config.tokenizer.vocab_size = 49'406;
  EXPECT_THAT(cost_report(config), HasSubstr("151,277,313"));
  config.clip->train.batch_size = 256;
  const ClipCost one = estimate_clip_cost(config, kClipTextVocab);
  EXPECT_DOUBLE_EQ(one.training_flops, 3 * (one.image_flops + one.text_flops));
  EXPECT_EQ(one.micro_batch_size, 256);
  EXPECT_EQ(estimate_clip_cost(config, kClipTextVocab, /*ranks=*/4).micro_batch_size, 64);
  config.clip->model.recompute = true;
  EXPECT_LT(estimate_clip_cost(config, kClipTextVocab).memory.activations,
            one.memory.activations / 4);
}

}  // namespace
}  // namespace dalle
