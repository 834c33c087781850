#include "experiment/evaluation/model_evaluation.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "data/image/image.h"
#include "data/shapes/shapes_caption.h"
#include "data/shapes/shapes_description.h"
#include "error_of.h"
#include "eval/caption_ranking.h"
#include "eval/reconstruction.h"
#include "eval/shapes_match.h"
#include "experiment/evaluation/evaluation_suites.h"
#include "experiment/evaluation/image_generator.h"
#include "experiment/report/evaluation_numbers.h"
#include "experiment/report/run_report.h"
#include "experiment/stages/experiment_data.h"
#include "model_evaluation_fixture.h"

namespace dalle {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

TEST_F(ModelEvaluationTest, ReconstructionIsOfHardCodes) {
  EvaluatedModel model = dvae_alone();
  const EvaluationData data(model, /*limit=*/0);
  const at::Tensor images = unit_images(validation_batch(data).images, c10::kCPU);
  ASSERT_EQ(images.size(0), 10);
  const at::Tensor decoded = vae_->decode(vae_->encode(images));
  const auto found = numbers_of(evaluate_reconstruction, model, data);
  EXPECT_NEAR(value_of(found.at("psnr")), psnr(images, decoded).mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("psnr_worst")), psnr(images, decoded).min().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("ssim")),
              structural_similarity(images, decoded).single_scale.mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(found.at("ms_ssim")),
              structural_similarity(images, decoded).multi_scale.mean().item<double>(), 1e-6);
  EXPECT_EQ(found.at("ms_ssim_scales"), 2) << "of 32 and 16 pixels";
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
  EXPECT_GT(value_of(numbers_of(evaluate_codes, model, data).at("flip_rate")), 0.0);
  for (at::Tensor& parameter : model.vae->parameters()) parameter.zero_();
  const auto found = numbers_of(evaluate_codes, model, data);
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
  const at::Tensor codes = vae_->encode(unit_images(batch.images, c10::kCPU)).flatten(1);
  DalleModel& transformer = model.dalle->model;
  const DalleLoss loss =
      transformer->loss(batch.captions, codes, transformer->count_targets(batch.captions));
  const auto found = numbers_of(evaluate_likelihood, model, data);
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
  const auto found = numbers_of(evaluate_likelihood, model, EvaluationData(model, 0));
  EXPECT_NEAR(value_of(found.at("image_bits_per_token")), 4.0, 1e-6);
  EXPECT_EQ(value_of(found.at("image_top5")), 0.0) << "all tokens are equally likely";
  EXPECT_NEAR(value_of(found.at("bits_per_image")), 64 * 4.0, 1e-4);
  EXPECT_NEAR(value_of(found.at("text_bits_per_token")),
              std::log2(static_cast<double>(model.dalle->tokenizer.vocab_size())), 1e-5);
}

// Every caption of the ten images, scored one by one with the training loss.
TEST_F(ModelEvaluationTest, RankingAgreesWithTheTrainingLossOfEachCaption) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, 0);
  const Batch batch = validation_batch(data);
  const at::Tensor codes = vae_->encode(unit_images(batch.images, c10::kCPU)).flatten(1);
  DalleModel& transformer = model.dalle->model;
  for (at::Tensor& parameter : transformer->parameters())
    parameter.mul_(4);  // so that captions matter by more than the rounding of a loss
  const auto score = [&](int64_t image, int64_t caption) {
    const at::Tensor text = batch.captions[caption].unsqueeze(0);
    return -transformer->loss(text, codes[image].unsqueeze(0), transformer->count_targets(text))
                .image.item<double>();
  };
  double first = 0, reciprocal = 0, candidates = 0;
  for (int64_t i = 0; i < batch.size(); ++i) {
    const DetectedScene scene = detect_shapes(tensor_to_image(batch.images[i]));
    std::set<std::string> used = {batch.texts[static_cast<size_t>(i)]};
    std::vector<double> others;
    for (int64_t j = 0; j < batch.size(); ++j) {
      const std::string& text = batch.texts[static_cast<size_t>(j)];
      if (used.insert(text).second && !match_shapes(parse_shapes_caption(text), scene).exact)
        others.push_back(score(i, j));
    }
    const CaptionRank rank = rank_caption(score(i, i), others);
    first += rank.first / 10;
    reciprocal += rank.reciprocal / 10;
    candidates += static_cast<double>(others.size() + 1) / 10;
  }
  const auto found = numbers_of(evaluate_ranking, model, data);
  EXPECT_EQ(found.at("images"), 10);
  EXPECT_NEAR(value_of(found.at("first")), first, 1e-9);
  EXPECT_NEAR(value_of(found.at("reciprocal_rank")), reciprocal, 1e-9);
  EXPECT_NEAR(value_of(found.at("candidates")), candidates, 1e-9);
  EXPECT_FALSE(found.contains("swapped_captions")) << "there is one object";
}

TEST_F(ModelEvaluationTest, SwappedCaptionsAreComparedByTheTrainingLoss) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.min_objects = model.config.data.shapes.max_objects = 2;
  DalleModel& transformer = model.dalle->model;
  for (at::Tensor& parameter : transformer->parameters()) parameter.mul_(4);
  const EvaluationData data(model, 0);
  const Batch batch = validation_batch(data);
  const at::Tensor codes = vae_->encode(unit_images(batch.images, c10::kCPU)).flatten(1);
  double preferred = 0;
  for (int64_t i = 0; i < batch.size(); ++i) {
    const auto loss_of = [&](const std::string& caption) {
      const at::Tensor text = caption_tokens(*model.dalle, caption).unsqueeze(0);
      return transformer->loss(text, codes[i].unsqueeze(0), transformer->count_targets(text))
          .image.item<double>();
    };
    const std::string& caption = batch.texts[static_cast<size_t>(i)];
    preferred += loss_of(caption) < loss_of(swap_shapes_attributes(caption).value()) ? 0.1 : 0;
  }
  const auto found = numbers_of(evaluate_ranking, model, data);
  EXPECT_EQ(found.at("swapped_captions"), 10);
  EXPECT_NEAR(value_of(found.at("preferred_to_swapped")), preferred, 1e-9);
}

TEST_F(ModelEvaluationTest, ATransformerThatIgnoresCaptionsRanksByChance) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.min_objects = model.config.data.shapes.max_objects = 2;
  model.config.data.shapes.validation_samples = 40;
  for (at::Tensor& parameter : model.dalle->model->parameters()) parameter.zero_();
  const auto found = numbers_of(evaluate_ranking, model, EvaluationData(model, 0));
  EXPECT_EQ(value_of(found.at("candidates")), 16);
  EXPECT_NEAR(value_of(found.at("first")), 1.0 / 16, 1e-12);
  EXPECT_NEAR(value_of(found.at("first_by_chance")), 1.0 / 16, 1e-12);
  EXPECT_EQ(found.at("swapped_captions"), 40);
  EXPECT_EQ(value_of(found.at("preferred_to_swapped")), 0.5);
  EXPECT_FALSE(found.contains("shuffled_captions"));
  EXPECT_LT(found.at("preferred_to_swapped").at("low").get<double>(), 0.36);
}

/// Folders of noise images with these captions.
class CaptionedImagesTest : public ModelEvaluationTest {
 protected:
  EvaluatedModel with_captions(const std::vector<std::string>& captions) const {
    EvaluatedModel model = with_transformer();
    model.config.data.kind = DatasetKind::kFolder;
    model.config.data.path = folder_of("train", {"a cat"}).string();
    model.config.data.validation_path = folder_of("validation", captions).string();
    return model;
  }

 private:
  std::filesystem::path folder_of(const std::string& name,
                                  const std::vector<std::string>& captions) const {
    const std::filesystem::path path = folder_ / name;
    make_directories(path);
    for (size_t i = 0; i < captions.size(); ++i) {
      const at::Tensor pixels = torch::randint(256, {3, 32, 32}, torch::kByte);
      const std::string stem = fmt::format("{}-{}", name, i);
      write_file_atomically(path / (stem + ".png"),
                            encode_image(tensor_to_image(pixels), ImageFormat::kPng));
      write_file_atomically(path / (stem + ".txt"), captions[i]);
    }
    return path;
  }
};

TEST_F(CaptionedImagesTest, RankingShufflesTheWordsOfOtherCaptions) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_captions({"a red cat", "two dogs", "teapot", "a red cat"});
  for (at::Tensor& parameter : model.dalle->model->parameters()) parameter.zero_();
  const auto found = numbers_of(evaluate_ranking, model, EvaluationData(model, 0));
  EXPECT_EQ(found.at("images"), 4);
  EXPECT_EQ(value_of(found.at("candidates")), 3) << "the same caption twice is one candidate";
  EXPECT_NEAR(value_of(found.at("first")), 1.0 / 3, 1e-12);
  EXPECT_EQ(found.at("shuffled_captions"), 3) << "one is a single word";
  EXPECT_EQ(value_of(found.at("preferred_to_shuffled")), 0.5);
}

TEST_F(CaptionedImagesTest, RankingNeedsCaptionsThatDiffer) {
  EvaluatedModel model = with_captions({"a cat", "a cat"});
  EXPECT_THAT(error_of([&] { evaluate(std::move(model), {EvaluationSuite::kRanking}); }),
              HasSubstr("--suite ranking: found only one caption in 2 validation images"));
  const auto all = evaluate(with_captions({"a cat", "a cat"}), {});
  EXPECT_TRUE(all.at("suites").contains("likelihood"));
  EXPECT_FALSE(all.at("suites").contains("ranking"));
}

TEST_F(ModelEvaluationTest, TheImagesThatNumbersNameAreStored) {
  const auto suites =
      evaluate(with_transformer(), {EvaluationSuite::kReconstruction, EvaluationSuite::kShapes})
          .at("suites");
  const auto image = [&](const ordered_json& name) {
    return decode_image(read_file(images_of_results(out_) / name.get<std::string>()));
  };
  const ordered_json& worst = suites.at("reconstruction").at("worst");
  ASSERT_EQ(worst.size(), 8U);
  EXPECT_EQ(worst[0].at("image"), suites.at("reconstruction").at("worst_image"));
  EvaluatedModel model = dvae_alone();
  const Batch batch = validation_batch(EvaluationData(model, 0));
  double previous = 0;
  for (const ordered_json& one : worst) {
    const RgbImage original = image(one.at("original"));
    EXPECT_EQ(original, tensor_to_image(batch.images[one.at("image").get<int64_t>()]));
    EXPECT_NE(original, image(one.at("reconstructed")));
    EXPECT_GE(one.at("psnr").get<double>(), previous);
    previous = one.at("psnr").get<double>();
  }
  const ordered_json& examples = suites.at("shapes").at("examples");
  ASSERT_EQ(examples.size(), 10U);
  for (const ordered_json& one : examples) {
    const ShapesMatch match =
        match_shapes(parse_shapes_caption(one.at("caption").get<std::string>()),
                     detect_shapes(image(one.at("file"))));
    EXPECT_EQ(one.at("exact"), match.exact);
    EXPECT_EQ(one.at("wrong").empty(), match.exact);
  }
}

TEST_F(ModelEvaluationTest, LevelsAreJudgedWhereTheConfigHasSuchScenes) {
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.hold_out = true;
  const auto found = numbers_of(evaluate_levels, model, EvaluationData(model, /*limit=*/2));
  for (const char* level : {"L0", "L1", "L2", "L7", "L8"}) {
    EXPECT_EQ(found.at(fmt::format("{}_images", level)), 2) << level;
    EXPECT_TRUE(found.contains(fmt::format("{}_exact", level))) << level;
  }
  EXPECT_FALSE(found.contains("L1_relation")) << "there is one object";
  EXPECT_EQ(found.at("L4_images"), 2) << "two objects, although training has one";
  EXPECT_THAT(error_of([&] { evaluate(with_transformer(), {EvaluationSuite::kLevels}); }),
              HasSubstr("--suite levels: step-00000001 was trained with data.shapes.hold_out"));
}

TEST_F(ModelEvaluationTest, EveryNumberHasADefinitionForTheReport) {
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.hold_out = true;
  model.config.data.shapes.min_objects = model.config.data.shapes.max_objects = 2;
  for (const auto& [suite, numbers] : evaluate(std::move(model), {}).at("suites").items())
    for (const auto& [name, number] : numbers.items())
      if (number.is_object() && number.contains("value")) {
        EXPECT_TRUE(describe_number(suite, name)) << suite << " " << name;
      }
}

TEST_F(ModelEvaluationTest, ShapesJudgesAnImageForEachCaption) {
  EvaluatedModel model = with_transformer();
  const auto found = numbers_of(evaluate_shapes, model, EvaluationData(model, /*limit=*/2));
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
  // The last three of the decoder's outputs are the logarithms of the scales.
  model.vae->named_parameters()["decoder.blocks.output.conv.b"].narrow(0, 3, 3).fill_(
      std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(
      error_of([&] { evaluate(std::move(model), {EvaluationSuite::kReconstruction}); }),
      HasSubstr("--suite reconstruction: nll_nats_per_dimension is nan, expected a finite number"));
  EXPECT_FALSE(std::filesystem::exists(out_));
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
