#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "data/image/image.h"
#include "error_of.h"
#include "eval/shapes_match.h"
#include "experiment/report/run_report.h"
#include "model_evaluation_fixture.h"
#include "sample/generate_codes.h"

namespace dalle {
namespace {

using testing::HasSubstr;

class CompletionSuiteTest : public ModelEvaluationTest {};

// The first completion, step by step.
TEST_F(CompletionSuiteTest, CompletesTheUpperHalfOfTheCodes) {
  const torch::NoGradGuard no_grad;
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const SuiteResult result = evaluate_completion(model, data, {.generator = generator}, work_);
  EXPECT_EQ(result.numbers.at("images"), 10);
  ASSERT_EQ(result.numbers.at("examples").size(), 10U);

  const Batch batch = validation_batch(data);
  const at::Tensor codes = vae_->encode(unit_images(batch.images, c10::kCPU))[0];  // [8, 8]
  at::Tensor forced = codes.clone();
  forced.slice(0, 4).fill_(kFreeCode);
  const at::Tensor completed = generate_codes(
      model.dalle->model,
      {.caption = caption_tokens(*model.dalle, batch.texts[0]), .forced = forced.flatten()},
      model.config.sample, {.seed = static_cast<uint64_t>(model.config.seed)})[0];
  EXPECT_TRUE(completed.slice(0, 0, 4).equal(codes.slice(0, 0, 4)));
  const RgbImage image = decode_image(vae_, completed);
  const ordered_json& first = result.numbers.at("examples")[0];
  EXPECT_EQ(result.images.at(first.at("file").get<std::string>()), image);
  EXPECT_EQ(first.at("exact"), judge_image(batch.texts[0], image).exact);
}

TEST_F(CompletionSuiteTest, ComparesWithImagesWithoutAPrompt) {
  EvaluatedModel model = with_transformer();
  const EvaluationData data(model, /*limit=*/0);
  ImageGenerator generator(model, work_);
  const auto found = evaluate_completion(model, data, {.generator = generator}, work_).numbers;
  const auto shapes = evaluate_shapes(model, data, {.generator = generator}, work_).numbers;
  EXPECT_EQ(found.at("exact_without_prompt"), shapes.at("exact"));
  EXPECT_EQ(found.at("ceiling_exact"), shapes.at("ceiling_exact"));
  EXPECT_TRUE(found.contains("intact"));
}

TEST_F(CompletionSuiteTest, NeedsScenes) {
  EvaluatedModel photos = with_transformer();
  photos.config.data.kind = DatasetKind::kFolder;
  EXPECT_THAT(error_of([&] { evaluate(std::move(photos), {EvaluationSuite::kCompletion}); }),
              HasSubstr("--suite completion: the data of step-00000001 is of kind folder, expected "
                        "shapes"));
  EXPECT_THAT(error_of([&] { evaluate(dvae_alone(), {EvaluationSuite::kCompletion}); }),
              HasSubstr("contains a dVAE but no transformer"));
}

}  // namespace
}  // namespace dalle
