#include "experiment/model_evaluation.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "data/image/image.h"
#include "error_of.h"
#include "eval/reconstruction.h"
#include "experiment/evaluation_suites.h"
#include "experiment/experiment_data.h"
#include "shapes_experiment.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

ExperimentConfig tiny_experiment() {
  ExperimentConfig config = shapes_experiment();
  config.dvae.model = {
      .groups = 3, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8};
  config.dalle.model.depth = 1;
  return config;
}

class ModelEvaluationTest : public testing::Test {
 protected:
  ModelEvaluationTest() : vae_(config_.dvae.model, Precision::kFloat32) {
    vae_->initialize(initial_weights_generator(config_, /*stage=*/1));
  }

  EvaluatedModel dvae_alone() const {
    return {.checkpoint = "step-00000001",
            .hash = "abc",
            .step = 1,
            .config = config_,
            .vae = vae_,
            .dalle = std::nullopt};
  }

  EvaluatedModel with_transformer() const {
    Tokenizer tokenizer(train_tokenizer(
        [n = 0]() mutable -> std::optional<std::string> {
          return n++ < 20 ? std::optional<std::string>("a small red circle on a white background")
                          : std::nullopt;
        },
        {.vocab_size = 300}));
    DalleModel transformer(config_.dalle.model, config_.layout(), tokenizer.vocab_size(),
                           config_.dvae.model.vocab_size, Precision::kFloat32);
    transformer->initialize(initial_weights_generator(config_, /*stage=*/2));
    transformer->eval();
    EvaluatedModel model = dvae_alone();
    model.dalle = TrainedDalle{.checkpoint = model.checkpoint,
                               .hash = model.hash,
                               .step = model.step,
                               .config = config_,
                               .tokenizer = std::move(tokenizer),
                               .vae = vae_,
                               .model = transformer};
    return model;
  }

  ordered_json evaluate(EvaluatedModel model, std::vector<EvaluationSuite> suites,
                        bool restart = false) const {
    return evaluate_model(
        model, {.suites = std::move(suites), .limit = 0, .out = out_, .restart = restart}, [] {});
  }

  /// All validation samples as one batch.
  static Batch validation_batch(const EvaluationData& data) {
    Batch all;
    data.for_each_batch(
        "test", [] {}, [&](const Batch& batch) { all = batch; });
    return all;
  }

  const ExperimentConfig config_ = tiny_experiment();
  const TemporaryDirectory folder_;
  const std::filesystem::path out_ = folder_.path() / "evaluation.json";
  DiscreteVae vae_;
};

double value_of(const ordered_json& metric) {
  return metric.at("value").get<double>();
}

TEST_F(ModelEvaluationTest, ReconstructionIsOfHardCodes) {
  EvaluatedModel model = dvae_alone();
  const EvaluationData data(model, /*limit=*/0);
  const at::Tensor images = unit_images(validation_batch(data), c10::kCPU);
  ASSERT_EQ(images.size(0), 10);
  const at::Tensor decoded = vae_->decode(vae_->encode(images));
  const auto found = evaluate_reconstruction(model, data, [] {});
  EXPECT_NEAR(value_of(found.at("psnr")), psnr(images, decoded).mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("psnr_worst")), psnr(images, decoded).min().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("ssim")),
              structural_similarity(images, decoded).mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("soft_hard_gap")),
              value_of(found.at("psnr_soft")) - value_of(found.at("psnr")), 1e-9);
  // 8 x 8 positions and 3 x 32 x 32 dimensions.
  EXPECT_NEAR(value_of(found.at("negative_elbo_nats_per_dimension")),
              value_of(found.at("nll_nats_per_dimension")) +
                  value_of(found.at("kl_nats_per_position")) / 48,
              1e-9);
}

TEST_F(ModelEvaluationTest, CodesOfADvaeThatIgnoresItsInputNeverFlip) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = dvae_alone();
  const EvaluationData data(model, 0);
  EXPECT_GT(value_of(evaluate_codes(model, data, [] {}).at("flip_rate")), 0.0);
  for (at::Tensor& parameter : model.vae->parameters()) parameter.zero_();
  const auto found = evaluate_codes(model, data, [] {});
  EXPECT_EQ(value_of(found.at("flip_rate")), 0.0);
  EXPECT_DOUBLE_EQ(value_of(found.at("used_fraction")), 1.0 / 16);
  EXPECT_DOUBLE_EQ(value_of(found.at("perplexity")), 1.0);
  EXPECT_DOUBLE_EQ(value_of(found.at("tokens_per_code")), 10 * 64 / 16.0);
  EXPECT_EQ(value_of(found.at("entropy_bits")), 0.0);
}

TEST_F(ModelEvaluationTest, LikelihoodAgreesWithTheTrainingLoss) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, 0);
  const Batch batch = validation_batch(data);
  const at::Tensor codes = vae_->encode(unit_images(batch, c10::kCPU)).flatten(1);
  DalleModel& transformer = model.dalle->model;
  const DalleLoss loss =
      transformer->loss(batch.captions, codes, transformer->count_targets(batch.captions));
  const auto found = evaluate_likelihood(model, data, [] {});
  const double image_bits = loss.image.item<double>() / std::numbers::ln2;
  EXPECT_NEAR(value_of(found.at("text_bits_per_token")),
              loss.text.item<double>() / std::numbers::ln2, 1e-4);
  EXPECT_NEAR(value_of(found.at("image_bits_per_token")), image_bits, 1e-4);
  EXPECT_NEAR(value_of(found.at("bits_per_image")), 64 * image_bits, 1e-2);
  EXPECT_LE(value_of(found.at("image_top1")), value_of(found.at("image_top5")));
}

TEST_F(ModelEvaluationTest, AUniformTransformerHasTheBitsOfItsVocabularies) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  for (at::Tensor& parameter : model.dalle->model->parameters()) parameter.zero_();
  const auto found = evaluate_likelihood(model, EvaluationData(model, 0), [] {});
  EXPECT_NEAR(value_of(found.at("image_bits_per_token")), 4.0, 1e-6);
  EXPECT_EQ(value_of(found.at("image_top5")), 0.0) << "all tokens are equally likely";
  EXPECT_NEAR(value_of(found.at("bits_per_image")), 64 * 4.0, 1e-4);
  EXPECT_NEAR(value_of(found.at("text_bits_per_token")),
              std::log2(static_cast<double>(model.dalle->tokenizer.vocab_size())), 1e-5);
}

TEST_F(ModelEvaluationTest, ShapesJudgesAnImageForEachCaption) {
  EvaluatedModel model = with_transformer();
  const auto found = evaluate_shapes(model, EvaluationData(model, /*limit=*/2), [] {});
  EXPECT_EQ(found.at("images"), 2);
  EXPECT_TRUE(found.contains("color"));
  EXPECT_TRUE(found.contains("ceiling_color"));
}

TEST_F(ModelEvaluationTest, FinishedSuitesAreKeptUntilTheModelChanges) {
  evaluate(dvae_alone(), {EvaluationSuite::kCodes});
  ordered_json file = ordered_json::parse(read_file(out_));
  file["suites"]["codes"]["perplexity"]["value"] = -1;
  write_file_atomically(out_, file.dump());

  const auto kept = evaluate(dvae_alone(), {});
  EXPECT_EQ(value_of(kept.at("suites").at("codes").at("perplexity")), -1);
  EXPECT_TRUE(kept.at("suites").contains("reconstruction"));
  EXPECT_EQ(ordered_json::parse(read_file(out_)), kept);

  const auto again = evaluate(dvae_alone(), {EvaluationSuite::kCodes}, /*restart=*/true);
  EXPECT_GE(value_of(again.at("suites").at("codes").at("perplexity")), 1);
  EXPECT_TRUE(again.at("suites").contains("reconstruction")) << "was not requested";

  EvaluatedModel other = dvae_alone();
  other.hash = "def";
  const auto changed = evaluate(std::move(other), {EvaluationSuite::kCodes});
  EXPECT_FALSE(changed.at("suites").contains("reconstruction")) << "is of another model";
  EXPECT_EQ(ordered_json::parse(read_file(folder_.path() / "evaluation-1.json")), again);
}

TEST_F(ModelEvaluationTest, ResultsThatAreNotFiniteAreRefused) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = dvae_alone();
  for (at::Tensor& parameter : model.vae->parameters())
    parameter.fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(error_of([&] { evaluate(std::move(model), {EvaluationSuite::kReconstruction}); }),
              HasSubstr("--suite reconstruction: psnr is nan, expected a finite number"));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(ModelEvaluationTest, AStopKeepsFinishedSuites) {
  EvaluatedModel model = dvae_alone();
  int calls = 0;
  const auto stop_second = [&] {
    if (++calls == 2) throw StopRequested();
  };
  const ModelEvaluationOptions options{
      .suites = {EvaluationSuite::kCodes, EvaluationSuite::kReconstruction}, .out = out_};
  EXPECT_THROW(evaluate_model(model, options, stop_second), StopRequested);
  const auto file = ordered_json::parse(read_file(out_));
  EXPECT_TRUE(file.at("suites").contains("codes"));
  EXPECT_FALSE(file.at("suites").contains("reconstruction"));
}

TEST_F(ModelEvaluationTest, SaysWhatASuiteNeeds) {
  EXPECT_THAT(error_of([&] { evaluate(dvae_alone(), {EvaluationSuite::kLikelihood}); }),
              HasSubstr("--suite likelihood: step-00000001 contains a dVAE but no transformer"));
  EvaluatedModel photos = with_transformer();
  photos.config.data.kind = DatasetKind::kFolder;
  EXPECT_THAT(error_of([&] { evaluate(std::move(photos), {EvaluationSuite::kShapes}); }),
              HasSubstr("is of kind folder, expected shapes"));
  write_file_atomically(out_, "a report");
  EXPECT_THAT(error_of([&] { evaluate(dvae_alone(), {EvaluationSuite::kCodes}); }),
              HasSubstr("evaluation.json: not a results file"));
}

TEST(RunOfModelTest, IsTheFolderAboveCheckpoints) {
  EXPECT_EQ(run_of_model("runs/x"), "runs/x");
  EXPECT_EQ(run_of_model("runs/x/checkpoints/dalle/step-00000010"),
            std::filesystem::absolute("runs/x"));
  for (const char* path : {"/a/runs/x/checkpoints", "/a/runs/x/checkpoints/dvae/",
                           "/a/runs/x/checkpoints/dalle/best", "/a/b/../runs/x/checkpoints/dvae"})
    EXPECT_EQ(run_of_model(path), "/a/runs/x");
  for (const char* path : {"/checkpoints/runs/x", "/checkpoints/a/x", "/a/models/step-00000010"})
    EXPECT_EQ(run_of_model(path), path);
}

}  // namespace
}  // namespace dalle
