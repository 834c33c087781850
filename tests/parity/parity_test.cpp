// Our models against PyTorch's: tests/fixtures/write_parity.py wrote the same tiny models from the
// paper with PyTorch's own layers, distributions and optimizer, and saved what came out.

#include <cmath>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "model/clip_model.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "nn/contrastive_loss.h"
#include "optim/adamw.h"
#include "optim/flat_parameters.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

struct Fixture {
  std::map<std::string, at::Tensor> tensors;
  NamedTensors weights;
  NamedTensors gradients;

  const at::Tensor& operator[](const std::string& name) const { return tensors.at(name); }
  double number(const std::string& name) const { return tensors.at(name).item<double>(); }
};

Fixture read_fixture(const std::string& name) {
  constexpr std::string_view kWeight = "weight.", kGradient = "gradient.";
  Fixture fixture;
  for (const auto& [key, tensor] : read_safetensors("tests/fixtures/" + name).tensors) {
    if (key.starts_with(kWeight))
      fixture.weights.emplace_back(key.substr(kWeight.size()), tensor);
    else if (key.starts_with(kGradient))
      fixture.gradients.emplace_back(key.substr(kGradient.size()), tensor);
    else
      fixture.tensors.emplace(key, tensor);
  }
  return fixture;
}

/// A type to compute in and how far its results may be from PyTorch's float64. Scalars are saved in
/// float64; tensors in float32, whose rounding is within 6e-8.
struct Tolerance {
  at::ScalarType type;
  double scalar;  ///< relative
  double tensor;  ///< of the tensor's largest absolute value
};

class ParityTest : public testing::TestWithParam<Tolerance> {
 protected:
  static void expect_near(const at::Tensor& found, double expected, const char* what) {
    EXPECT_NEAR(found.item<double>(), expected, GetParam().scalar * std::abs(expected)) << what;
  }

  static void expect_close(const at::Tensor& found, const at::Tensor& expected,
                           const std::string& what) {
    ASSERT_EQ(found.sizes(), expected.sizes()) << what;
    const auto reference = expected.to(at::kDouble);
    const double largest = reference.abs().max().item<double>();
    const double difference = (found.to(at::kDouble) - reference).abs().max().item<double>();
    EXPECT_LE(difference, GetParam().tensor * largest) << what;
  }

  static void expect_gradients(const torch::nn::Module& module, const Fixture& fixture) {
    const auto parameters = module.named_parameters();
    ASSERT_EQ(parameters.size(), fixture.gradients.size());
    for (const auto& [name, gradient] : fixture.gradients)
      expect_close(parameters[name].grad(), gradient, "gradient of " + name);
  }
};

INSTANTIATE_TEST_SUITE_P(Types, ParityTest,
                         testing::Values(Tolerance{at::kDouble, 1e-12, 1e-7},
                                         Tolerance{at::kFloat, 1e-6, 1e-5}),
                         [](const auto& test) { return c10::toString(test.param.type); });

TEST_P(ParityTest, TransformerHasPyTorchsLossGradientsAndFiveUpdates) {
  const Fixture fixture = read_fixture("dalle_steps.safetensors");
  constexpr SequenceLayout kLayout{.text_length = 6, .grid_height = 4, .grid_width = 4};
  TransformerConfig config;  // its masks, loss weights and activation are the paper's
  config.depth = 7;
  config.heads = 2;
  config.width = 16;
  config.text_length = kLayout.text_length;
  config.conv_kernel = 3;
  DalleModel model(config, kLayout, /*text_vocab_size=*/13, /*image_vocab_size=*/11);
  load_weights(*model, fixture.weights, "dalle_steps.safetensors");
  model->to(GetParam().type);
  FlatParameters parameters(*model);
  AdamW optimizer(parameters.values(),
                  {.beta1 = 0.9, .beta2 = 0.96, .epsilon = 1e-8, .weight_decay = 4.5e-2},
                  all_of(parameters.values()));
  const auto& captions = fixture["captions"];
  const LossCounts counts = model->count_targets(captions);

  const auto& losses = fixture["losses"];
  ASSERT_EQ(losses.numel(), 6);  // before each update, and after the fifth
  for (int64_t step = 0; step < losses.numel(); ++step) {
    parameters.zero_gradients();
    const DalleLoss loss = model->loss(captions, fixture["codes"], counts);
    loss.total.backward();
    expect_near(loss.total, losses[step].item<double>(),
                ("loss after updates: " + std::to_string(step)).c_str());
    if (step == 0) {
      expect_near(loss.text, fixture.number("text_loss"), "text loss");
      expect_near(loss.image, fixture.number("image_loss"), "image loss");
      expect_gradients(*model, fixture);
    }
    optimizer.step(parameters.gradients(), /*learning_rate=*/4.5e-3);
  }
}

TEST_P(ParityTest, DvaeHasPyTorchsLogitsLossAndGradients) {
  const Fixture fixture = read_fixture("dvae_step.safetensors");
  DiscreteVae vae(DiscreteVaeConfig{
      .groups = 4, .blocks_per_group = 2, .hidden = 4, .vocab_size = 24, .codebook_width = 8});
  load_weights(*vae, fixture.weights, "dvae_step.safetensors");
  vae->to(GetParam().type);
  const auto images = fixture["images"].to(GetParam().type);
  const auto noise = fixture["noise"].to(GetParam().type);
  expect_close(vae->logits(images), fixture["logits"], "logits");

  const DvaeLoss loss = vae->loss(images, {noise, /*temperature=*/0.7, /*kl_weight=*/6.6});
  expect_near(loss.reconstruction, fixture.number("reconstruction"), "reconstruction");
  expect_near(loss.kl, fixture.number("kl"), "KL");
  expect_near(loss.total, fixture.number("loss"), "loss");
  loss.total.backward();
  expect_gradients(*vae, fixture);
}

TEST_P(ParityTest, ContrastiveModelHasPyTorchsEmbeddingsLossAndGradients) {
  const Fixture fixture = read_fixture("clip_step.safetensors");
  const ClipConfig config{.patch_size = 4,
                          .image_depth = 2,
                          .image_heads = 2,
                          .image_width = 8,
                          .text_depth = 1,
                          .text_heads = 2,
                          .text_width = 8,
                          .text_length = 6,
                          .embed_dim = 6};
  ClipModel model(config, /*image_size=*/8, /*text_vocab_size=*/7);
  load_weights(*model, fixture.weights, "clip_step.safetensors");
  model->to(GetParam().type);
  const auto images = model->embed_images(fixture["images"].to(GetParam().type));
  const auto captions = model->embed_captions(fixture["captions"]);
  expect_close(images, fixture["image_embeddings"], "embeddings of images");
  expect_close(captions, fixture["caption_embeddings"], "embeddings of captions");

  const ContrastiveLoss loss =
      contrastive_loss(images, captions, model->logit_scale(), fixture["labels"]);
  expect_near(loss.image_to_text, fixture.number("image_to_text"), "image to text");
  expect_near(loss.text_to_image, fixture.number("text_to_image"), "text to image");
  expect_near(loss.total, fixture.number("loss"), "loss");
  loss.total.backward();
  expect_gradients(*model, fixture);
}

}  // namespace
}  // namespace dalle
