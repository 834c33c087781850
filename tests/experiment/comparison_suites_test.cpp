#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "core/files.h"
#include "data/image/image.h"
#include "error_of.h"
#include "eval/feature_distances.h"
#include "eval/feature_space.h"
#include "eval/gaussian_blur.h"
#include "experiment/evaluation/image_generator.h"
#include "model_evaluation_fixture.h"

namespace dalle {
namespace {

using testing::HasSubstr;

class ComparisonSuitesTest : public ModelEvaluationTest {
 protected:
  /// A TorchScript file with a network of three features: the means of the channels.
  std::filesystem::path extractor(const std::string& name) const {
    torch::jit::Module module(name);
    module.define("def forward(self, x):\n  return x.mean(dim=[2, 3])\n");
    module.save((folder_ / (name + ".pt")).string());
    return folder_ / (name + ".pt");
  }
};

TEST_F(ComparisonSuitesTest, ImagesOfOneCaptionDifferAndAreGeneratedOnce) {
  const EvaluatedModel model = with_transformer();
  ImageGenerator generator(model, work_);
  const std::string caption = "a small red circle";
  const auto first = generator.codes({caption}, "test");
  const auto codes = generator.codes({caption, "a blue square", caption}, "test");
  ASSERT_EQ(codes.size(), 3U);
  EXPECT_TRUE(codes[0].equal(first[0]));
  EXPECT_FALSE(codes[2].equal(codes[0]));
  EXPECT_TRUE(ImageGenerator(model, work_).codes({caption, caption}, "test")[1].equal(codes[2]))
      << "whatever else is generated";
}

/// Float [N, 3, 32, 32] in [0, 1] of the training images that the suites use, in their order.
at::Tensor training_images(const EvaluationData& data, int64_t count) {
  return data.batch(0, count, DataPart::kTraining).value().images.to(at::kFloat) / 255;
}

TEST_F(ComparisonSuitesTest, FrechetComparesGeneratedImagesWithValidationImages) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.validation_samples = 70;  // more than the random network has features
  model.config.data.shapes.samples = 80;
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const auto found = evaluate_frechet(model, data, {.generator = generator}, work_).numbers;
  EXPECT_EQ(found.at("images"), 70);
  EXPECT_EQ(found.at("training_images"), 70);

  const Batch validation = validation_batch(data);
  const at::Tensor images = validation.images.to(at::kFloat) / 255;
  const auto features = [](const FeatureSpace& space, const at::Tensor& pixels) {
    return space.features(pixels);
  };
  const FeatureSpace random = random_space(at::kCPU), dvae = dvae_space(vae_);
  const at::Tensor generated = torch::stack(images_of(generator, validation.texts)) / 255.0F;
  const at::Tensor training = training_images(data, 70);
  const auto of_random = [&](const at::Tensor& pixels) { return features(random, pixels); };
  const auto distance = [&](const at::Tensor& others) {
    return frechet_distance(fit_normal(of_random(images)), fit_normal(of_random(others)));
  };
  EXPECT_NEAR(value_of(found.at("random_frechet")), distance(generated), 1e-3);
  EXPECT_NEAR(value_of(found.at("random_frechet_training")), distance(training), 1e-3);
  const at::Tensor decoded = (vae_->decode(vae_->encode(images)) * 255).round() / 255;
  EXPECT_NEAR(value_of(found.at("random_frechet_reconstructed")), distance(decoded), 1e-3);
  EXPECT_NEAR(value_of(found.at("dvae_kid")),
              kernel_distance(features(dvae, images), features(dvae, generated)).value, 1e-4);
  const auto scores = neighborhood_scores(of_random(images), of_random(training), 5);
  EXPECT_NEAR(value_of(found.at("random_coverage_training")), scores.coverage.value, 0.03);
  EXPECT_THAT(found.at("notes")[0].get<std::string>(),
              HasSubstr("random: 70 images in 64 dimensions are few"));
  EXPECT_EQ(found.at("dimensions"), (ordered_json{{"random", 64}, {"dvae", 32}}));

  ASSERT_EQ(found.at("blur").size(), 4U) << "radii 0, 1, 2 and 4 of 32 pixels";
  EXPECT_EQ(found.at("blur")[0].at("generated"), found.at("random_frechet").at("value"));
  const at::Tensor soft = gaussian_blur(images, 4), soft_generated = gaussian_blur(generated, 4);
  EXPECT_EQ(found.at("blur")[3].at("radius"), 4);
  EXPECT_NEAR(found.at("blur")[3].at("generated").get<double>(),
              frechet_distance(fit_normal(of_random(soft)), fit_normal(of_random(soft_generated))),
              1e-3);
}

TEST_F(ComparisonSuitesTest, AClipScoreIsTheMeanCosineOfImageAndCaption) {
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const auto of_caption = [](const std::string& caption) {
    return torch::tensor({static_cast<float>(caption.size()), 20.0F, 1.0F});
  };
  const FeatureSpace space{.name = "toy",
                           .features =
                               [](const at::Tensor& images) {
                                 return images.mean({2, 3}).cpu();
                               },
                           .of_captions =
                               [&](std::span<const std::string> captions) {
                                 std::vector<at::Tensor> rows;
                                 for (const std::string& caption : captions)
                                   rows.push_back(of_caption(caption));
                                 return torch::stack(rows);
                               }};
  const auto found =
      evaluate_frechet(model, data, {.generator = generator, .extractor = {.space = space}}, work_)
          .numbers;
  const Batch batch = validation_batch(data);
  const at::Tensor generated = torch::stack(images_of(generator, batch.texts));
  const auto expected = [&](const at::Tensor& images) {
    double sum = 0;
    for (int64_t i = 0; i < batch.size(); ++i) {
      const at::Tensor image = images[i].to(at::kFloat).mean({1, 2});
      const at::Tensor caption = of_caption(batch.texts[static_cast<size_t>(i)]);
      sum += (image.dot(caption) / image.norm() / caption.norm()).item<double>();
    }
    return sum / static_cast<double>(batch.size());
  };
  EXPECT_NEAR(value_of(found.at("toy_clip_score")), expected(generated), 1e-5);
  EXPECT_NEAR(value_of(found.at("toy_clip_score_validation")), expected(batch.images), 1e-5);
  EXPECT_LT(found.at("toy_clip_score").at("low").get<double>(), expected(generated));
}

TEST_F(ComparisonSuitesTest, FrechetDistancesNeedMoreImagesThanFeatures) {
  const auto suites = evaluate(with_transformer(), {EvaluationSuite::kFrechet},
                               /*restart=*/false, extractor("means"))
                          .at("suites");
  const ordered_json& found = suites.at("frechet");
  EXPECT_FALSE(found.contains("random_frechet"));
  EXPECT_TRUE(found.contains("random_kid"));
  EXPECT_THAT(found.at("notes")[0].get<std::string>(),
              HasSubstr("random: 10 images in 64 dimensions are too few for a Fréchet distance"));
  const std::string name = "means-" + sha256_of_file(folder_ / "means.pt").substr(0, 12);
  EXPECT_TRUE(found.contains(name + "_frechet")) << "of three features";
}

TEST_F(ComparisonSuitesTest, AnotherExtractorHasAnotherResultsFile) {
  evaluate(dvae_alone(), {EvaluationSuite::kCodes});
  const std::filesystem::path file = extractor("means");
  const auto first = evaluate(with_transformer(), {EvaluationSuite::kMemorization}, false, file);
  EXPECT_FALSE(first.at("suites").contains("codes"));
  EXPECT_EQ(first.at("model").at("extractor"), sha256_of_file(file));
  EXPECT_THAT(first.at("command").get<std::string>(), HasSubstr("--extractor " + file.string()));
  std::filesystem::rename(file, folder_ / "moved.pt");
  const auto moved =
      evaluate(with_transformer(), {EvaluationSuite::kMemorization}, false, folder_ / "moved.pt");
  EXPECT_EQ(moved.at("suites"), first.at("suites")) << "the same content is the same extractor";
}

TEST_F(ComparisonSuitesTest, ExtractorsNeedASuiteThatUsesThem) {
  EXPECT_THAT(
      error_of([&] { evaluate(with_transformer(), {EvaluationSuite::kCodes}, false, "net.pt"); }),
      HasSubstr("--extractor net.pt: requires --suite frechet or memorization"));
  EXPECT_THAT(
      error_of([&] { evaluate(with_transformer(), {EvaluationSuite::kFrechet}, false, "net.pt"); }),
      HasSubstr("net.pt: cannot read"));
}

TEST_F(ComparisonSuitesTest, ComparisonsNeedTenImages) {
  const auto with_nine_images = [&] {
    EvaluatedModel model = with_transformer();
    model.config.data.shapes.validation_samples = 9;
    return model;
  };
  for (const EvaluationSuite suite : {EvaluationSuite::kFrechet, EvaluationSuite::kMemorization})
    EXPECT_THAT(error_of([&] { evaluate(with_nine_images(), {suite}); }),
                HasSubstr("found 9 validation images, expected at least 10"));
  const auto all = evaluate(with_nine_images(), {});
  EXPECT_TRUE(all.at("suites").contains("shapes"));
  EXPECT_FALSE(all.at("suites").contains("frechet"));
}

TEST_F(ComparisonSuitesTest, MemorizationComparesDistancesFromTrainingImages) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const SuiteResult result = evaluate_memorization(model, data, {.generator = generator}, work_);
  const ordered_json& found = result.numbers;
  EXPECT_EQ(found.at("images"), 10);
  EXPECT_EQ(found.at("training_images"), 20);
  const Batch batch = validation_batch(data);
  const at::Tensor training = training_images(data, 20);
  const at::Tensor generated = torch::stack(images_of(generator, batch.texts));
  const auto distances = [&](const at::Tensor& images) {  // [N, T], in pixels
    const at::Tensor small = at::avg_pool2d(images.to(at::kFloat) / 255, 2).unsqueeze(1);
    return (small - at::avg_pool2d(training, 2)).square().mean({2, 3, 4}).sqrt();
  };
  const at::Tensor of_generated = std::get<0>(distances(generated).min(1));
  const at::Tensor of_validation = std::get<0>(distances(batch.images).min(1));
  EXPECT_NEAR(value_of(found.at("pixels_generated_distance")), of_generated.mean().item<double>(),
              1e-5);
  EXPECT_NEAR(value_of(found.at("pixels_validation_distance")), of_validation.mean().item<double>(),
              1e-5);
  EXPECT_NEAR(value_of(found.at("pixels_nearer")),
              (of_generated < of_validation.quantile(0.01)).to(at::kFloat).mean().item<double>(),
              1e-6);

  const ordered_json& closest = found.at("closest");
  ASSERT_EQ(closest.size(), 16U) << "eight of each space";
  EXPECT_NEAR(closest[0].at("distance").get<double>(), of_generated.min().item<double>(), 1e-5);
  const auto image = [&](const ordered_json& name) {
    return image_to_tensor(result.images.at(name.get<std::string>())).unsqueeze(0);
  };
  const at::Tensor pair = distances(image(closest[0].at("generated")));
  EXPECT_NEAR(pair.min().item<double>(), of_generated.min().item<double>(), 1e-5);
  const at::Tensor nearest = training[pair.argmin().item<int64_t>()];
  EXPECT_TRUE((image(closest[0].at("training")) / 255.0F).allclose(nearest));
}

// An untrained dVAE generates grayish images, of which the gray training image is a copy.
TEST_F(ComparisonSuitesTest, GeneratedImagesThatAreTrainingImagesAreFound) {
  const auto write = [&](const std::string& name, const at::Tensor& pixels) {
    write_file_atomically(folder_ / (name + ".png"),
                          encode_image(tensor_to_image(pixels), ImageFormat::kPng));
    write_file_atomically(folder_ / (name + ".txt"), "a cat");
  };
  make_directories(folder_ / "train");
  make_directories(folder_ / "validation");
  for (int i = 0; i < 12; ++i)
    write(fmt::format("validation/{}", i), torch::randint(256, {3, 32, 32}, at::kByte));
  write("train/gray", torch::full({3, 32, 32}, 128, at::kByte));
  write("train/white", torch::full({3, 32, 32}, 255, at::kByte));
  EvaluatedModel model = with_transformer();
  model.config.data.kind = DatasetKind::kFolder;
  model.config.data.path = (folder_ / "train").string();
  model.config.data.validation_path = (folder_ / "validation").string();
  ImageGenerator generator(model, work_);
  const EvaluationData data(model, /*limit=*/0);
  const auto found = evaluate_memorization(model, data, {.generator = generator}, work_).numbers;
  EXPECT_EQ(value_of(found.at("pixels_nearer")), 1);
  EXPECT_EQ(found.at("closest")[0].at("key"), "gray.png");
  EXPECT_FALSE(found.contains("pixels_other_captions")) << "there is one caption";
}

TEST_F(ComparisonSuitesTest, ALimitRaisesTheNumberOfGeneratedImages) {
  EvaluatedModel model = with_transformer();
  model.config.data.shapes.validation_samples = 1500;
  EXPECT_EQ(EvaluationData(model, /*limit=*/0).images_to_generate(), 1000);
  EXPECT_EQ(EvaluationData(model, 20).images_to_generate(), 20);
  EXPECT_EQ(EvaluationData(model, 1200).images_to_generate(), 1200);
  EXPECT_EQ(EvaluationData(model, 2000).images_to_generate(), 1500);
}

TEST_F(ComparisonSuitesTest, DiversityIsTheMeanDistanceWithinAndBetweenCaptions) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const auto found = evaluate_memorization(model, data, {.generator = generator}, work_).numbers;
  const std::vector<std::string> texts = validation_batch(data).texts;
  const std::set<std::string> captions(texts.begin(), texts.end());
  EXPECT_EQ(found.at("captions_compared"), captions.size());
  std::vector<at::Tensor> images;  // [4, 768] of each caption
  for (const std::string& caption : captions)
    images.push_back(pixel_space().features(
        torch::stack(images_of(generator, {caption, caption, caption, caption})) / 255.0F));
  double same = 0, other = 0;
  for (size_t a = 0; a < images.size(); ++a)
    for (size_t b = 0; b < images.size(); ++b)
      for (int64_t i = 0; i < 4; ++i)
        for (int64_t j = 0; j < 4; ++j)
          (a == b ? same : other) += (images[a][i] - images[b][j]).norm().item<double>();
  const auto count = static_cast<double>(captions.size());
  EXPECT_NEAR(value_of(found.at("pixels_same_caption")), same / (count * 12), 1e-5);
  EXPECT_NEAR(value_of(found.at("pixels_other_captions")), other / (count * (count - 1) * 16),
              1e-5);
}

}  // namespace
}  // namespace dalle
