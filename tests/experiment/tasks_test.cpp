#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "data/image/image.h"
#include "data/text/tokenizer.h"
#include "error_of.h"
#include "experiment/stages/clip_task.h"
#include "experiment/stages/dalle_task.h"
#include "experiment/stages/dvae_task.h"
#include "experiment/stages/experiment_data.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::IsSupersetOf;
using testing::Le;

ExperimentConfig small_experiment() {
  ExperimentConfig config = shapes_experiment();
  config.tokenizer.vocab_size = 300;
  config.dvae.model = {
      .groups = 3, .blocks_per_group = 1, .hidden = 32, .vocab_size = 64, .codebook_width = 16};
  config.dvae.train.batch_size = config.dalle.train.batch_size = 8;
  config.dvae.train.eval_samples = config.dalle.train.eval_samples = 10;
  config.dvae.train.micro_batch_size = config.dalle.train.micro_batch_size = 3;
  config.dalle.model.depth = 2;
  config.dalle.crops_per_image = 2;
  config.clip.emplace();
  config.clip->model = {.patch_size = 8,
                        .image_depth = 1,
                        .image_heads = 2,
                        .image_width = 16,
                        .text_depth = 1,
                        .text_heads = 2,
                        .text_width = 16,
                        .text_length = 16,
                        .embed_dim = 8};
  config.clip->train.batch_size = 8;
  config.clip->train.eval_samples = 10;
  config.clip->train.eval_chunk = 4;
  return config;
}

constexpr int64_t kStep = 10;

class TasksTest : public testing::Test {
 protected:
  TasksTest() : config_(small_experiment()), data_(config_, RunPaths(folder_.path())) {}

  DiscreteVae vae() const {
    DiscreteVae vae(config_.dvae.model, config_.dalle.train.precision);
    vae->initialize(initial_weights_generator(config_, Stage::kDvae));
    return vae;
  }

  DalleTask dalle_task() { return DalleTask(config_, data_, tokenizer_, vae(), c10::kCPU); }

  static Batch batch_of(const TrainTask& task, int64_t first, int64_t count) {
    std::vector<Sample> samples;
    for (int64_t i = 0; i < count; ++i) samples.push_back(task.sample(first + i));
    return stack(samples);
  }

  /// Loss and gradient of a global batch that is cut into micro-batches.
  static std::pair<double, at::Tensor> loss_and_gradient(TrainTask& task, const Batch& batch,
                                                         int64_t micro_batch_size, int64_t step) {
    task.module().zero_grad();
    ProcessGroup alone;
    double sum = 0;
    for (int64_t begin = 0; begin < batch.size(); begin += micro_batch_size) {
      const Batch part = batch.slice(begin, std::min(begin + micro_batch_size, batch.size()));
      const TaskLoss loss =
          task.loss(part, {.counts = task.count(batch), .step = step, .group = alone});
      loss.total.backward();
      sum += loss.total.item<double>();
    }
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : task.module().parameters())
      if (parameter.grad().defined()) gradients.push_back(parameter.grad().flatten());
    return {sum, torch::cat(gradients)};
  }

  static void expect_the_same_for_any_cut(TrainTask& task) {
    const Batch batch = batch_of(task, 4, 8);
    const auto [whole, gradient] = loss_and_gradient(task, batch, 8, /*step=*/7);
    EXPECT_GT(gradient.abs().max().item<double>(), 1e-6);
    for (const int64_t size : {1, 3, 4}) {
      const auto [cut, cut_gradient] = loss_and_gradient(task, batch, size, /*step=*/7);
      EXPECT_NEAR(cut, whole, 1e-5) << size;
      EXPECT_TRUE(torch::allclose(cut_gradient, gradient, 1e-3, 1e-6)) << size;
    }
  }

  /// What `world` ranks find together, as one that trains would be told; nothing without samples.
  static std::optional<Evaluation> evaluate(TrainTask& task, int64_t world = 1) {
    const torch::NoGradGuard no_grad;
    std::vector<std::string> parts;
    for (int64_t rank = 0; rank < world; ++rank)
      parts.push_back(to_bytes(task.evaluate(kStep, {.rank = rank, .world_size = world})));
    const auto totals = add_up(parts);
    return totals ? std::optional(task.summarize(kStep, *totals)) : std::nullopt;
  }

  static ImageGroups images_of(TrainTask& task, int64_t world = 1) {
    const torch::NoGradGuard no_grad;
    std::vector<std::string> parts;
    for (int64_t rank = 0; rank < world; ++rank)
      parts.push_back(to_bytes(
          ImagePart{.groups = task.sample_images(kStep, {.rank = rank, .world_size = world}),
                    .out_of_memory = ""}));
    return join(parts).groups;
  }

  static std::vector<size_t> group_sizes(TrainTask& task) {
    std::vector<size_t> sizes;
    for (const auto& [number, images] : images_of(task)) sizes.push_back(images.size());
    return sizes;
  }

  /// More ranks than there are batches, too.
  static void expect_the_same_on_any_number_of_ranks(TrainTask& task) {
    const Evaluation one = evaluate(task).value();
    const ImageGroups images = images_of(task);
    for (const int64_t world : {2, 3, 7}) {
      const Evaluation many = evaluate(task, world).value();
      EXPECT_EQ(many.score, one.score) << world;
      EXPECT_EQ(json_line("", 0, many.metrics, {}), json_line("", 0, one.metrics, {})) << world;
      EXPECT_EQ(images_of(task, world), images) << world;
    }
  }

  static std::set<std::string> names_of(const std::vector<Metric>& metrics) {
    std::set<std::string> names;
    for (const Metric& metric : metrics) names.insert(metric.name);
    return names;
  }

  static double value_of(const std::vector<Metric>& metrics, const std::string& name) {
    for (const Metric& metric : metrics)
      if (metric.name == name) return metric.value;
    ADD_FAILURE() << "no " << name;
    return 0;
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

TEST_F(TasksTest, TheDvaesLossIsTheSameForAnySplitIntoMicroBatches) {
  DvaeTask task(config_, data_, c10::kCPU);
  expect_the_same_for_any_cut(task);
}

TEST_F(TasksTest, TheTransformersLossIsTheSameForAnySplitIntoMicroBatches) {
  DalleTask task = dalle_task();
  expect_the_same_for_any_cut(task);
}

TEST_F(TasksTest, TheTransformersLossIsTheSameForAnySplitIfCaptionsAreDropped) {
  config_.dalle.train.caption_dropout = 0.5;
  DalleTask task = dalle_task();
  expect_the_same_for_any_cut(task);
  const at::Tensor dropped = batch_of(task, 4, 8).captions.eq(kPadToken).all(1);
  EXPECT_TRUE(dropped.any().item<bool>());
  EXPECT_FALSE(dropped.all().item<bool>());
}

TEST_F(TasksTest, DroppedCaptionsAreThoseOfTraining) {
  DalleTask plain = dalle_task();
  const double score = evaluate(plain).value().score;
  config_.dalle.train.caption_dropout = 1;
  DalleTask task = dalle_task();
  EXPECT_EQ(evaluate(task).value().score, score);
  const Batch batch = batch_of(task, 0, 3);
  EXPECT_EQ(task.count(batch).text_tokens, 0);
  const auto [loss, gradient] = loss_and_gradient(task, batch, 3, /*step=*/0);
  EXPECT_GT(loss, 0);
  EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

TEST_F(TasksTest, TheDvaeReportsReconstructionsAndTheHealthOfItsCodes) {
  DvaeTask task(config_, data_, c10::kCPU);
  const Evaluation evaluation = evaluate(task).value();
  EXPECT_THAT(names_of(evaluation.metrics),
              IsSupersetOf({"validation", "validation/reconstruction", "validation/kl", "psnr_soft",
                            "psnr_hard", "codes_used", "perplexity"}));
  EXPECT_THAT(value_of(evaluation.metrics, "codes_used"), AllOf(Ge(1.0 / 64), Le(1)));
  EXPECT_THAT(value_of(evaluation.metrics, "perplexity"), AllOf(Ge(1), Le(64)));
  EXPECT_THAT(value_of(evaluation.metrics, "validation/kl"), AllOf(Ge(0), Le(std::log(64.0))));
  EXPECT_EQ(evaluation.score, -value_of(evaluation.metrics, "psnr_hard"));
}

class InvalidValidationTest : public TasksTest {
 protected:
  void put_images() {
    config_.data.kind = DatasetKind::kFolder;
    config_.data.path = (folder_ / "images").string();
    config_.data.validation_fraction = 0;  // a single one
    make_directories(config_.data.path);
    const RgbImage image{
        .width = 40, .height = 40, .pixels = std::vector<uint8_t>(40 * 40 * 3, 99)};
    for (int i = 0; i < 24; ++i)
      write_file_atomically(folder_ / fmt::format("images/{:02}.png", i),
                            encode_image(image, ImageFormat::kPng));
    const ExperimentData data(config_, RunPaths(folder_.path()));
    write_file_atomically(fs::path(config_.data.path) / data.validation().key(0), "corrupt");
  }
};

TEST_F(InvalidValidationTest, GoesWithoutEvaluationAsLongAsFewOfTheDataSetAreInvalid) {
  put_images();
  ExperimentData data(config_, RunPaths(folder_.path()));
  ASSERT_EQ(data.validation().size(), 1);
  DvaeTask dvae(config_, data, c10::kCPU);
  EXPECT_FALSE(evaluate(dvae).has_value());
  EXPECT_TRUE(images_of(dvae).empty());
  DalleTask dalle(config_, data, tokenizer_, vae(), c10::kCPU);
  EXPECT_FALSE(evaluate(dalle).has_value());
  EXPECT_TRUE(images_of(dalle).empty());
  ClipTask clip(config_, data, tokenizer_, c10::kCPU);  // would compare the image with itself
  EXPECT_FALSE(evaluate(clip).has_value());
  const std::string skipped = read_file(RunPaths(folder_.path()).skipped_validation());
  EXPECT_EQ(std::ranges::count(skipped, '\n'), 1);
}

TEST_F(InvalidValidationTest, EndsTheRunWhereTooManyAreInvalid) {
  put_images();
  config_.data.max_invalid_fraction = 0.01;
  ExperimentData data(config_, RunPaths(folder_.path()));
  DvaeTask dvae(config_, data, c10::kCPU);
  EXPECT_THAT(error_of([&] { dvae.evaluate(kStep, {}); }),
              testing::HasSubstr("1 of 24 samples cannot be used, more than the 1%"));
}

TEST_F(TasksTest, TheDvaeShowsReconstructionsAtEveryEvaluation) {
  DvaeTask task(config_, data_, c10::kCPU);
  EXPECT_EQ(task.traits().sample_every, config_.dvae.train.eval_every);
  EXPECT_EQ(task.traits().sample_name, "reconstructions");
  EXPECT_THAT(group_sizes(task), ElementsAre(8, 8, 4));  // ten images, each with its reconstruction
}

TEST_F(TasksTest, TheTransformerReportsItsLossesAndSamplesTheConfigsCaptions) {
  config_.sample.captions = {"a red circle", "a blue square"};
  config_.sample.count = 3;
  DalleTask task = dalle_task();
  const Evaluation evaluation = evaluate(task).value();
  const double text = value_of(evaluation.metrics, "validation/text"),
               image = value_of(evaluation.metrics, "validation/image");
  EXPECT_NEAR(evaluation.score, text / 8 + image * 7 / 8, 1e-9);
  EXPECT_NEAR(image, std::log(64.0), 0.5);  // untrained: about that of guessing
  EXPECT_EQ(task.traits().sample_name, "samples");
  EXPECT_THAT(group_sizes(task), ElementsAre(3, 3));
}

TEST_F(TasksTest, TheDvaeEvaluatesToTheSameBitsOnAnyNumberOfRanks) {
  DvaeTask task(config_, data_, c10::kCPU);
  expect_the_same_on_any_number_of_ranks(task);
}

TEST_F(TasksTest, TheTransformerEvaluatesToTheSameBitsOnAnyNumberOfRanks) {
  config_.sample.captions = {"a red circle", "a blue square", "a green circle"};
  config_.sample.count = 2;
  DalleTask task = dalle_task();
  expect_the_same_on_any_number_of_ranks(task);
}

TEST_F(TasksTest, TheContrastiveModelReportsRetrievalInBothDirections) {
  ClipTask task(config_, data_, tokenizer_, c10::kCPU);
  const Evaluation evaluation = evaluate(task).value();
  {
    const torch::NoGradGuard no_grad;
    task.module().named_parameters()["logit_scale"].fill_(-30);  // all logits are equal
  }
  EXPECT_NEAR(evaluate(task).value().score, std::log(4.0), 1e-6);  // in chunks of four
  for (const std::string direction : {"image_to_text", "text_to_image"}) {
    const double at_1 = value_of(evaluation.metrics, direction + "_at_1");
    EXPECT_THAT(at_1 * 8, testing::DoubleEq(std::round(at_1 * 8)));   // two whole chunks
    EXPECT_EQ(value_of(evaluation.metrics, direction + "_at_5"), 1);  // of four
  }
  EXPECT_EQ(task.traits().sample_name, "retrieval");
  EXPECT_THAT(group_sizes(task), ElementsAre(5, 5, 5, 5));  // each image, then the whole chunk
}

TEST_F(TasksTest, TheContrastiveModelEvaluatesToTheSameBitsOnAnyNumberOfRanks) {
  ClipTask task(config_, data_, tokenizer_, c10::kCPU);
  expect_the_same_on_any_number_of_ranks(task);
}

TEST_F(TasksTest, AStopEndsARanksShare) {
  DvaeTask dvae(config_, data_, c10::kCPU);
  DalleTask dalle = dalle_task();
  ClipTask clip(config_, data_, tokenizer_, c10::kCPU);
  const RankShare stopped{.check_stop = [] { throw StopRequested(); }};
  for (TrainTask* task : std::initializer_list<TrainTask*>{&dvae, &dalle, &clip}) {
    EXPECT_THROW(task->evaluate(kStep, stopped), StopRequested);
    EXPECT_THROW(task->sample_images(kStep, stopped), StopRequested);
  }
}

TEST_F(TasksTest, SampledImageTokensDifferFromTheLikeliestAndAreThePositionsOwn) {
  DalleTask likeliest = dalle_task();
  const Batch batch = batch_of(likeliest, 0, 8);
  const double loss = loss_and_gradient(likeliest, batch, 8, 0).first;
  config_.dalle.image_tokens = ImageTokens::kSample;
  DalleTask sampled = dalle_task();
  const double of_samples = loss_and_gradient(sampled, batch, 8, 0).first;
  EXPECT_NE(of_samples, loss);
  for (const int64_t size : {1, 3})
    EXPECT_NEAR(loss_and_gradient(sampled, batch, size, 0).first, of_samples, 1e-5) << size;
}

// On the CPU a batch of one is computed by different kernels, and so rounded differently, than a
// larger one.
TEST_F(TasksTest, CachedCodesAreThoseThatTrainingWouldCompute) {
  config_.data.image_size = 64;
  for (const int64_t micro_batch_size : {1, 3}) {
    config_.dalle.train.micro_batch_size = micro_batch_size;
    const TemporaryDirectory folder;
    ExperimentData larger(config_, RunPaths(folder.path()));
    DalleTask fly(config_, larger, tokenizer_, vae(), c10::kCPU);
    DalleTask cached(config_, larger, tokenizer_, vae(), c10::kCPU);
    ProcessGroup alone;
    const StopSignal stop;
    ASSERT_TRUE(cached.cache_codes(folder / "codes", alone, stop));
    for (int64_t first = 0; first < 80; first += micro_batch_size) {  // each image four times
      const Batch images = batch_of(fly, first, micro_batch_size);
      const Batch codes = batch_of(cached, first, micro_batch_size);
      const auto made = vae()->encode(unit_images(images.images, c10::kCPU)).flatten(1);
      ASSERT_TRUE(torch::equal(codes.codes, made)) << first << " by " << micro_batch_size;
      ASSERT_EQ(codes.texts, images.texts);
    }
  }
}

}  // namespace
}  // namespace dalle
