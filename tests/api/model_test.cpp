#include "dalle/model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "data/batch.h"
#include "data/image/image.h"
#include "error_of.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/decode_image.h"
#include "sample/generate_codes.h"

namespace dalle {
namespace {

/// Twenty steps of each stage on the built-in shapes, of 32 x 32 pixels. Tests run in the root of
/// the repository.
const char* const kTrained = "tests/fixtures/run-0.1";

Model load_on_cpu() {
  return Model::load(kTrained, "cpu");
}

TEST(Model, TellsTheSizesOfItsTensors) {
  const Model model = load_on_cpu();
  EXPECT_EQ(model.step(), 20);
  EXPECT_EQ(model.checkpoint().filename(), "step-00000020");
  const at::Tensor codes = model.generate_codes("a red circle", {.count = 2});
  EXPECT_EQ(codes.sizes(), at::IntArrayRef({2, model.grid_size(), model.grid_size()}));
  EXPECT_GE(codes.min().item<int64_t>(), 0);
  EXPECT_LT(codes.max().item<int64_t>(), model.image_vocab_size());
  EXPECT_EQ(model.decode(codes).sizes(),
            at::IntArrayRef({2, 3, model.image_size(), model.image_size()}));
  for (const int64_t token : model.tokenize("a red circle"))
    EXPECT_LT(token, model.text_vocab_size());
}

TEST(Model, GeneratesTheImagesOfTheSampler) {
  const Model model = load_on_cpu();
  const TrainedDalle dalle = load_trained_dalle(kTrained, c10::kCPU);
  SamplingConfig sampling = dalle.config.sample;
  sampling.temperature = 0.7;
  sampling.top_k = 5;
  sampling.top_p = 0.9;
  const CaptionImages request{
      .caption = caption_tokens(dalle, "a red circle"), .first_image = 11, .count = 3};
  std::map<int64_t, at::Tensor> expected;
  generate_codes(dalle.model, std::span(&request, 1), sampling, {.seed = 9},
                 [&](size_t, int64_t image, const at::Tensor& codes) {
                   expected[image] = image_to_tensor(decode_image(dalle.vae, codes));
                 });
  const at::Tensor images = model.generate(
      "a red circle",
      {.seed = 9, .first = 11, .count = 3, .temperature = 0.7, .top_k = 5, .top_p = 0.9});
  for (int64_t i = 0; i < 3; ++i) EXPECT_TRUE(images[i].equal(expected.at(11 + i))) << i;
}

TEST(Model, GuidesLikeTheSampler) {
  const Model model = load_on_cpu();
  const TrainedDalle dalle = load_trained_dalle(kTrained, c10::kCPU);
  SamplingConfig sampling = dalle.config.sample;
  sampling.guidance = 2.5;
  sampling.guidance_from = 0.1;
  sampling.guidance_to = 0.6;
  const at::Tensor expected =
      generate_codes(dalle.model, {.caption = caption_tokens(dalle, "a red circle"), .count = 2},
                     sampling, {.seed = 9});
  const SampleOptions options{
      .seed = 9, .count = 2, .guidance = 2.5, .guidance_from = 0.1, .guidance_to = 0.6};
  testing::internal::CaptureStderr();
  EXPECT_TRUE(model.generate_codes("a red circle", options).equal(expected));
  EXPECT_TRUE(model.generate_codes("a red circle", options).equal(expected));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;  // one warning
  EXPECT_NE(log.find("dalle.train.caption_dropout is 0"), log.npos) << log;
}

TEST(Model, CompletesKnownCodes) {
  const Model model = load_on_cpu();
  const at::Tensor image = model.generate_codes("a red circle", {.seed = 9})[0];
  at::Tensor upper = image.clone();
  upper.slice(0, model.grid_size() / 2).fill_(-1);
  EXPECT_TRUE(
      model.generate_codes("a red circle", {.seed = 9, .known_codes = upper})[0].equal(image));
  const at::Tensor completed =
      model.generate_codes("a blue square", {.seed = 3, .count = 2, .known_codes = upper});
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_TRUE(completed[i].masked_select(upper.ge(0)).equal(image.masked_select(upper.ge(0))));
  EXPECT_TRUE(model.generate_codes("a blue square", {.known_codes = image, .variation = 1})
                  .equal(model.generate_codes("a blue square")));
}

TEST(Model, DecodesWhatItGenerates) {
  const Model model = load_on_cpu();
  const SampleOptions options{.seed = 4, .count = 3};
  const at::Tensor codes = model.generate_codes("a blue square", options);
  EXPECT_TRUE(model.decode(codes).equal(model.generate("a blue square", options)));
  EXPECT_TRUE(model.decode(codes.narrow(0, 1, 1)).equal(model.decode(codes).narrow(0, 1, 1)));
}

TEST(Model, EncodesBytesAndFractionsAlike) {
  const Model model = load_on_cpu();
  const at::Tensor images = model.generate("a blue square", {.count = 3});
  const at::Tensor codes = model.encode(images);
  EXPECT_EQ(codes.sizes(), at::IntArrayRef({3, model.grid_size(), model.grid_size()}));
  EXPECT_TRUE(model.encode(images.to(at::kFloat).div(255)).equal(codes));
  EXPECT_TRUE(model.encode(images.narrow(0, 2, 1)).equal(codes.narrow(0, 2, 1)));
  const TrainedDalle dalle = load_trained_dalle(kTrained, c10::kCPU);
  DiscreteVae vae = dalle.vae;
  EXPECT_TRUE(vae->encode(images.narrow(0, 0, 1).to(at::kFloat).div(255))[0].equal(codes[0]));
}

/// The log-probability of codes, token by token: the product rule, with the decoding loop's logits.
double image_log_likelihood(const TrainedDalle& dalle, const std::string& caption,
                            const at::Tensor& codes) {
  const torch::NoGradGuard no_grad;
  DalleModel model = dalle.model;
  const at::Tensor tokens =
      pad_caption(dalle.tokenizer.encode(caption), dalle.config.layout().max_caption_tokens());
  DecodeState state = model->prefill(tokens.unsqueeze(0));
  at::Tensor previous = torch::zeros({1}, at::kLong);
  double sum = 0;
  for (const at::Tensor& code : codes.flatten().split(1)) {
    const at::Tensor logits = model->decode_step(state, previous).to(at::kDouble);  // [1, K]
    sum += logits.log_softmax(-1)[0][code.item<int64_t>()].item<double>();
    previous = code;
  }
  return sum;
}

TEST(Model, LogLikelihoodOfAnImageIsTheSumOverItsCodes) {
  const Model model = load_on_cpu();
  const TrainedDalle dalle = load_trained_dalle(kTrained, c10::kCPU);
  const std::vector<std::string> captions = {"a red circle", "two green triangles"};
  const at::Tensor codes = torch::cat(
      {model.generate_codes(captions[0]), model.generate_codes(captions[1], {.seed = 2})});
  const LogLikelihood likelihood = model.log_likelihood(captions, codes);
  for (int64_t i = 0; i < 2; ++i) {
    const double expected = image_log_likelihood(dalle, captions[static_cast<size_t>(i)], codes[i]);
    EXPECT_NEAR(likelihood.image[i].item<double>(), expected, 1e-4 * -expected);
  }
}

TEST(Model, LogLikelihoodOfACaptionIsTheSumOverItsTokens) {
  const Model model = load_on_cpu();
  const TrainedDalle dalle = load_trained_dalle(kTrained, c10::kCPU);
  const std::vector<std::string> captions = {"a red circle",
                                             "two green triangles on a gray ground"};
  const at::Tensor codes = model.generate_codes(captions[0], {.count = 2});
  const LogLikelihood likelihood = model.log_likelihood(captions, codes);
  const torch::NoGradGuard no_grad;
  DalleModel transformer = dalle.model;
  const auto head = transformer->named_parameters()["text_head.weight"];
  for (int64_t i = 0; i < 2; ++i) {
    std::vector<int64_t> tokens = dalle.tokenizer.encode(captions[static_cast<size_t>(i)]);
    const int64_t longest = dalle.config.layout().max_caption_tokens();
    const at::Tensor caption = pad_caption(tokens, longest).unsqueeze(0);
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(longest)));
    const at::Tensor logits = transformer->hidden_states(caption, codes[i].view({1, -1}))[0]
                                  .to(at::kDouble)
                                  .matmul(head.t().to(at::kDouble));
    double sum = 0;
    for (size_t p = 0; p < tokens.size(); ++p)
      sum += logits[static_cast<int64_t>(p)].log_softmax(0)[tokens[p]].item<double>();
    EXPECT_NEAR(likelihood.text[i].item<double>(), sum, 1e-4 * -sum);
  }
}

TEST(Model, MovesWithItsWeights) {
  Model model = load_on_cpu();
  const at::Tensor images = model.generate("a red circle");
  Model moved = std::move(model);
  EXPECT_TRUE(moved.generate("a red circle").equal(images));
}

TEST(Model, NamesTheOptionOutOfRange) {
  const Model model = load_on_cpu();
  const std::vector<std::pair<std::string, SampleOptions>> invalid = {
      {"seed", {.seed = -1}},
      {"first", {.first = -1}},
      {"count", {.count = 0}},
      {"temperature", {.temperature = -0.5}},
      {"temperature", {.temperature = NAN}},
      {"top_k", {.top_k = -1}},
      {"top_p", {.top_p = 1.5}},
      {"top_p", {.top_p = 0}},
      {"guidance", {.guidance = -1}},
      {"guidance_from", {.guidance_from = 2}},
      {"guidance_to", {.guidance_from = 0.5, .guidance_to = 0.25}},
      {"best_of", {.best_of = -1}},
      {"best_of", {.count = 3, .best_of = 2}},
      {"variation", {.variation = 1.5}},
      {"variation", {.variation = NAN}}};
  for (const auto& [name, options] : invalid) {
    const std::string message =
        error_of([&, &given = options] { model.generate("a red circle", given); });
    EXPECT_TRUE(message.starts_with(name + ": found ")) << message;
  }
}

TEST(Model, NamesTheInvalidArgument) {
  const Model model = load_on_cpu();
  const int64_t grid = model.grid_size(), side = model.image_size();
  const at::Tensor codes = torch::zeros({1, grid, grid}, at::kLong);
  const auto starts = [](const std::string& name, const auto& action) {
    const std::string message = error_of(action);
    EXPECT_TRUE(message.starts_with(name)) << message;
  };
  starts("caption", [&] { model.generate(" "); });
  const at::Tensor known = codes[0];
  for (const at::Tensor& invalid :
       {codes, known.to(at::kInt), known - 2, known + model.image_vocab_size(), known.slice(0, 1)})
    starts("known_codes: found ", [&] { model.generate("a", {.known_codes = invalid}); });
  starts("codes", [&] { model.decode(at::Tensor()); });
  starts("codes", [&] { model.decode(codes.to(at::kInt)); });
  starts("codes", [&] { model.decode(torch::empty({1, 0, 2}, at::kLong)); });
  starts("codes", [&] { model.decode(codes + model.image_vocab_size()); });
  starts("codes", [&] { model.log_likelihood({"a", "b"}, codes); });
  starts("codes", [&] { model.log_likelihood({"a"}, codes - 1); });
  starts("caption", [&] { model.log_likelihood({""}, codes); });
  starts("images", [&] { model.encode(at::Tensor()); });
  starts("images", [&] { model.encode(torch::zeros({3, side, side}, at::kByte)); });
  starts("images", [&] { model.encode(torch::empty({1, 3, 0, side}, at::kByte)); });
  starts("images", [&] { model.encode(torch::zeros({1, 3, side, side}, at::kLong)); });
  starts("images", [&] { model.encode(torch::zeros({1, 3, side + 1, side}, at::kByte)); });
  starts("images", [&] { model.encode(torch::full({1, 3, side, side}, 255.0)); });
  starts("device", [&] { Model::load(kTrained, "tpu"); });
  starts("tests/fixtures/missing", [&] { Model::load("tests/fixtures/missing", "cpu"); });
}

}  // namespace
}  // namespace dalle
