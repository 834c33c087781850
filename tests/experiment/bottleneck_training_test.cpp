// Training, resuming and using dVAEs of every bottleneck.

#include <cmath>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "core/files.h"
#include "experiment/experiment.h"
#include "experiment/stages/codebook_updates.h"
#include "experiment/stages/dvae_task.h"
#include "experiment/trained/trained_dalle.h"
#include "ranks.h"
#include "sample/generate_codes.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"
#include "tensor/named_tensors.h"
#include "train/trainer.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using testing::Ge;
using testing::Le;

constexpr int64_t kVocabSize = 64;

struct BottleneckCase {
  std::string name;
  BottleneckKind bottleneck;
  VqConfig vq = {};
  LogitKind logits = LogitKind::kLinear;
};

void PrintTo(const BottleneckCase& kind, std::ostream* stream) {
  *stream << kind.name;
}

ExperimentConfig bottleneck_experiment(const BottleneckCase& kind) {
  ExperimentConfig config = shapes_experiment();
  config.tokenizer.vocab_size = 300;
  config.dvae.model = {.groups = 3,
                       .blocks_per_group = 1,
                       .hidden = 16,
                       .vocab_size = kVocabSize,
                       .codebook_width = 8,
                       .post_gain = 0.5,
                       .log_scale_floor = -1.0,
                       .codebook_init_std = 1.0};
  config.dvae.model.bottleneck = kind.bottleneck;
  config.dvae.model.vq = kind.vq;
  config.dvae.model.logits = kind.logits;
  DvaeTrainConfig& train = config.dvae.train;
  train.steps = 12;
  train.batch_size = 8;
  train.micro_batch_size = 2;
  train.learning_rate = 5e-3;
  train.max_grad_norm = 1;
  train.ema_decay = 0.8;
  train.log_every = 3;
  train.eval_every = 12;
  train.eval_samples = 10;
  train.save_every = 12;
  config.dalle.model.depth = 1;
  config.dalle.crops_per_image = 1;
  config.dalle.cache_codes = true;
  config.dalle.train.steps = 3;
  config.dalle.train.batch_size = 8;
  config.dalle.train.eval_every = config.dalle.train.save_every = 3;
  config.dalle.train.eval_samples = 10;
  config.sample.count = 1;
  return config;
}

class BottleneckTrainingTest : public testing::TestWithParam<BottleneckCase> {
 protected:
  /// Trains the dVAE on ranks that are threads, or alone.
  CheckpointContent train(const std::string& name, const ExperimentConfig& config,
                          int64_t world = 1) {
    const RunFolder run(folder_ / name);
    const StopSignal stop;
    const auto train_rank = [&](const std::shared_ptr<ProcessGroup>& group) {
      ExperimentData data(config, RunPaths(run.root, group->rank()), world);
      DvaeTask task(config, data, c10::kCPU);
      Trainer trainer(task, config.dvae.train, RunPaths(run.root, group->rank()),
                      {.group = group, .distributed = config.distributed, .matmul_flops = 1e9});
      EXPECT_EQ(trainer.run(stop), TrainOutcome::kFinished);
    };
    if (world == 1)
      train_rank(std::make_shared<ProcessGroup>());
    else
      on_ranks(world, [&](ProcessGroup& group) { train_rank({&group, [](ProcessGroup*) {}}); });
    return read_newest_checkpoint(run.checkpoints("dvae")).value();
  }

  static std::vector<std::string> names_of(const CheckpointContent& content) {
    std::vector<std::string> names;
    for (const auto& [name, tensors] : content.tensors) names.push_back(name);
    return names;
  }

  static at::Tensor flat(const NamedTensors& tensors) {
    std::vector<at::Tensor> parts;
    for (const auto& [name, tensor] : tensors) parts.push_back(tensor.flatten());
    return torch::cat(parts);
  }

  static void expect_same_bits(const CheckpointContent& found, const CheckpointContent& expected) {
    ASSERT_EQ(names_of(found), names_of(expected));
    for (const auto& [name, tensors] : expected.tensors)
      EXPECT_EQ(safetensors_bytes(found.tensors.at(name)), safetensors_bytes(tensors)) << name;
  }

  const TemporaryDirectory folder_;
  ExperimentConfig config_ = bottleneck_experiment(GetParam());
};

TEST_P(BottleneckTrainingTest, ResumedEqualsUninterruptedBitForBit) {
  const CheckpointContent whole = train("whole", config_);
  CheckpointContent resumed;
  for (const int64_t steps : {5, 10, 12}) {
    config_.dvae.train.steps = steps;
    resumed = train("resumed", config_);
  }
  expect_same_bits(resumed, whole);
  const VqConfig& vq = GetParam().vq;
  EXPECT_EQ(whole.tensors.contains("task_state"),
            vq.update == CodebookUpdate::kEma || vq.revive_every > 0);
}

TEST_P(BottleneckTrainingTest, TwoRanksEqualOne) {
  // Rounding may decide whether a code counts as dead, and with that which vector each dead code
  // gets. So with revival, only the exact runs are comparable.
  if (GetParam().vq.revive_every == 0) {
    const CheckpointContent alone = train("alone", config_);
    const CheckpointContent two = train("two", config_, 2);
    // Single weights may differ: AdamW's first steps have the size of the learning rate even where
    // a gradient is all rounding.
    const at::Tensor expected = flat(alone.tensors.at("weights"));
    EXPECT_LT((flat(two.tensors.at("weights")) - expected).norm().item<double>(),
              0.02 * expected.norm().item<double>());
  }
  config_.distributed.bitwise = true;
  expect_same_bits(train("exact-two", config_, 2), train("exact-alone", config_));
}

TEST_P(BottleneckTrainingTest, LearnsAndReportsItsNumbers) {
  config_.dvae.train.steps = 60;
  config_.dvae.train.eval_every = config_.dvae.train.save_every = 60;
  train("run", config_);
  std::vector<nlohmann::json> lines;
  std::istringstream text(read_file(folder_ / "run/metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  EXPECT_LT(lines[lines.size() - 2].at("loss/reconstruction").get<double>(),
            lines.front().at("loss/reconstruction").get<double>() - 0.2);
  const nlohmann::json& evaluation = lines.back();
  EXPECT_GE(evaluation.at("codes_used").get<double>(), 2.0 / kVocabSize);
  EXPECT_NEAR(evaluation.at("perplexity_share").get<double>() * kVocabSize,
              evaluation.at("perplexity").get<double>(), 1e-9);
  const bool is_gumbel = GetParam().bottleneck == BottleneckKind::kGumbel;
  for (const char* name : {"psnr_soft", "psnr_gap", "posterior_entropy", "validation/kl"})
    EXPECT_EQ(evaluation.contains(name), is_gumbel) << name;
  EXPECT_EQ(lines.front().contains("temperature"), is_gumbel);
  const bool is_vq = GetParam().bottleneck == BottleneckKind::kVq;
  EXPECT_EQ(evaluation.contains("validation/commitment"), is_vq);
  EXPECT_EQ(evaluation.contains("validation/codebook"),
            is_vq && GetParam().vq.update == CodebookUpdate::kLoss);
}

TEST_P(BottleneckTrainingTest, IsATokenizerForTheTransformer) {
  const RunFolder run(folder_ / "run");
  const StopSignal stop;
  ASSERT_EQ(run_experiment(config_, run, {}, stop), TrainOutcome::kFinished);
  TrainedDalle dalle = load_trained_dalle(run.root, c10::kCPU);
  EXPECT_EQ(dalle.config.dvae.model, config_.dvae.model);
  ExperimentData data(config_, run);
  SampleSourceOptions options = validation_options(config_);
  options.with_caption = false;
  const SampleSource source(data.validation(), nullptr, data.skipped_validation(), options);
  const Batch batch = first_samples(source, 4);
  const at::Tensor images = unit_images(batch.images, c10::kCPU);
  const at::Tensor codes = dalle.vae->encode(images);
  EXPECT_GE(codes.min().item<int64_t>(), 0);
  EXPECT_LT(codes.max().item<int64_t>(), kVocabSize);
  EXPECT_EQ(dalle.vae->decode(codes).sizes(), images.sizes());
  const at::Tensor generated =
      generate_codes(dalle.model, {.caption = caption_tokens(dalle, "a red circle"), .count = 2},
                     config_.sample, {.seed = 9});
  EXPECT_EQ(dalle.vae->decode(generated).sizes(), at::IntArrayRef({2, 3, 32, 32}));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BottleneckTrainingTest,
    testing::Values(
        BottleneckCase{"gumbel", BottleneckKind::kGumbel},
        BottleneckCase{"gumbel_distance", BottleneckKind::kGumbel, {}, LogitKind::kDistance},
        BottleneckCase{"vq", BottleneckKind::kVq},
        BottleneckCase{"vq_revived",
                       BottleneckKind::kVq,
                       {.revive_every = 4, .revive_below = 0.5, .unit_norm = true}},
        BottleneckCase{"vq_ema", BottleneckKind::kVq, {.update = CodebookUpdate::kEma}},
        BottleneckCase{
            "vq_ema_revived",
            BottleneckKind::kVq,
            {.update = CodebookUpdate::kEma, .decay = 0.9, .revive_every = 4, .revive_below = 0.5}},
        BottleneckCase{"fsq", BottleneckKind::kFsq}),
    [](const auto& test) { return test.param.name; });

/// Four samples with 2x2 vectors [D = 2]; vector v is (v, -v), and the first code has them all.
class CodebookUpdatesTest : public testing::Test {
 protected:
  static constexpr int64_t kVocabulary = 12;

  static BottleneckOutput passed(int64_t first, int64_t samples) {
    const auto numbers = torch::arange(4 * first, 4 * (first + samples), torch::kFloat);
    return {.embeddings = {},
            .codes = torch::zeros({samples, 2, 2}, torch::kLong),
            .vectors = torch::stack({numbers, -numbers}, 1).view({samples, 2, 2, 2})};
  }

  /// The codebook [K, D] after steps of four samples, in micro-batches of the given size.
  at::Tensor after(int64_t steps, int64_t micro_batch_size, ProcessGroup& group) {
    at::Tensor codebook = torch::full({2, kVocabulary, 1, 1}, 1000.0);
    CodebookUpdates updates(config_, codebook, seed_);
    const int64_t share = 4 / group.world_size();
    for (int64_t step = 0; step < steps; ++step) {
      const LossContext context{.counts = {.samples = 4}, .step = step, .group = group};
      for (int64_t i = 0; i < share; i += micro_batch_size) {
        const int64_t sample = group.rank() * share + i;
        updates.add(passed(sample, micro_batch_size), 4 * step + sample, context);
      }
      updates.apply(context, /*bitwise=*/false);
    }
    return codebook.flatten(1).t().contiguous();
  }

  VqConfig config_ = {.revive_every = 3};
  uint64_t seed_ = 5;
  ProcessGroup alone_;
};

TEST_F(CodebookUpdatesTest, ReplacesUnusedCodesByDifferentVectorsOfTheBatchWhenItIsTime) {
  const at::Tensor before = after(2, 4, alone_);
  EXPECT_TRUE(before.eq(1000).all().item<bool>());
  const at::Tensor revived = after(3, 4, alone_);
  EXPECT_TRUE(revived[0].eq(1000).all().item<bool>());  // it is used
  const at::Tensor first = revived.slice(0, 1).select(1, 0);
  EXPECT_THAT(first.min().item<double>(), Ge(0));
  EXPECT_THAT(first.max().item<double>(), Le(15));
  EXPECT_EQ(std::get<0>(at::_unique(first)).numel(), kVocabulary - 1);
  EXPECT_TRUE(torch::equal(revived.slice(0, 1).select(1, 1), -first));
  seed_ = 6;
  EXPECT_FALSE(torch::equal(after(3, 4, alone_), revived));
}

TEST_F(CodebookUpdatesTest, NeitherMicroBatchesNorRanksMatter) {
  for (const CodebookUpdate update : {CodebookUpdate::kLoss, CodebookUpdate::kEma}) {
    config_.update = update;
    const at::Tensor expected = after(7, 4, alone_);
    for (const int64_t size : {1, 2})
      EXPECT_TRUE(torch::allclose(after(7, size, alone_), expected, 1e-6)) << size;
    std::vector<at::Tensor> found(2);
    on_ranks(2, [&](ProcessGroup& group) {
      found[static_cast<size_t>(group.rank())] = after(7, 1, group);
    });
    EXPECT_TRUE(torch::allclose(found[0], expected, 1e-6));
    EXPECT_TRUE(torch::equal(found[1], found[0]));
  }
}

TEST_F(CodebookUpdatesTest, AStepThatIsSkippedLeavesNothing) {
  config_ = {.update = CodebookUpdate::kEma};
  const auto run = [&](bool with_skipped) {
    at::Tensor codebook = torch::full({2, kVocabulary, 1, 1}, 1000.0);
    CodebookUpdates updates(config_, codebook, seed_);
    if (with_skipped) {
      BottleneckOutput invalid = passed(0, 4);
      invalid.vectors.fill_(NAN);
      updates.add(invalid, 0, {.counts = {.samples = 4}, .step = 0, .group = alone_});
    }
    const LossContext context{.counts = {.samples = 4}, .step = 1, .group = alone_};
    updates.add(passed(0, 4), 4, context);
    updates.apply(context, /*bitwise=*/false);
    return codebook;
  };
  EXPECT_TRUE(torch::equal(run(true), run(false)));
}

TEST_F(CodebookUpdatesTest, RevivedCodesKeepTheirVectorUntilTheyAreUsed) {
  config_ = {.update = CodebookUpdate::kEma, .epsilon = 1e-9, .revive_every = 3};
  const at::Tensor revived = after(3, 4, alone_), later = after(5, 4, alone_);
  EXPECT_TRUE(torch::allclose(later.slice(0, 1), revived.slice(0, 1), 1e-4, 1e-4));
  EXPECT_FALSE(torch::equal(later[0], revived[0]));
}

}  // namespace
}  // namespace dalle
