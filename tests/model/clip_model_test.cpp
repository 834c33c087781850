#include "model/clip_model.h"

#include <cmath>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/sequence_layout.h"

namespace dalle {
namespace {

constexpr int64_t kClipSize = 16, kClipVocab = 11;

ClipConfig clip_config() {
  return {.patch_size = 4,
          .image_depth = 2,
          .image_heads = 2,
          .image_width = 12,
          .text_depth = 3,
          .text_heads = 4,
          .text_width = 8,
          .text_length = 7,
          .embed_dim = 6};
}

ClipModel make_clip(const ClipConfig& config, Precision precision = Precision::kFloat32) {
  ClipModel model(config, kClipSize, kClipVocab, precision);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

at::Tensor clip_captions() {
  const int p = kPadToken;
  return torch::tensor({{3, 1, 4, 1, 5}, {2, 7, p, p, p}, {p, p, p, p, p}, {2, 8, 1, p, p}});
}

at::Tensor clip_images(int64_t count) {
  torch::manual_seed(5);
  return torch::rand({count, 3, kClipSize, kClipSize});
}

TEST(ClipModel, EmbeddingsHaveUnitLength) {
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    ClipModel model = make_clip(clip_config(), precision);
    for (const auto& embedded :
         {model->embed_images(clip_images(3)), model->embed_captions(clip_captions())}) {
      EXPECT_EQ(embedded.size(1), 6);
      EXPECT_EQ(embedded.scalar_type(), at::kFloat);
      EXPECT_TRUE(torch::allclose(embedded.norm(2, 1), torch::ones({embedded.size(0)})));
    }
  }
}

TEST(ClipModel, DoesNotReadPadding) {
  ClipModel model = make_clip(clip_config());
  ClipConfig shorter = clip_config();
  shorter.text_length = 5;
  ClipModel short_model(shorter, kClipSize, kClipVocab);
  for (const auto& item : short_model->named_parameters()) {
    const torch::NoGradGuard no_grad;
    const auto& source = model->named_parameters()[item.key()];
    item.value().copy_(item.key() == "text_position" ? source.narrow(0, 0, 5) : source);
  }
  const auto all = model->embed_captions(clip_captions());
  const auto rows = torch::tensor({1, 2, 3});
  const auto cut =
      short_model->embed_captions(clip_captions().index_select(0, rows).narrow(1, 0, 3));
  EXPECT_TRUE(torch::allclose(all.index_select(0, rows), cut, 1e-5, 1e-6));
}

TEST(ClipModel, ReadsEveryTokenAndEveryPatchAndTheirOrder) {
  ClipModel model = make_clip(clip_config());
  const auto differs = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<double>() > 1e-4;
  };
  const auto caption = torch::tensor({{3, 1, 4, 1, 5}});
  const auto expected = model->embed_captions(caption);
  for (int64_t place = 0; place < 5; ++place) {
    auto changed = caption.clone();
    changed[0][place] = 9;
    EXPECT_TRUE(differs(model->embed_captions(changed), expected)) << place;
  }
  EXPECT_TRUE(differs(model->embed_captions(caption.flip(1)), expected));
  const auto image = clip_images(1);
  const auto seen = model->embed_images(image);
  for (int64_t y = 0; y < kClipSize; y += 4)
    for (int64_t x = 0; x < kClipSize; x += 4) {
      auto changed = image.clone();
      changed.narrow(2, y, 4).narrow(3, x, 4).zero_();
      EXPECT_TRUE(differs(model->embed_images(changed), seen)) << y << ", " << x;
    }
  EXPECT_TRUE(differs(model->embed_images(image.flip(3)), seen));
}

TEST(ClipModel, TheScaleIsInitially14AndCanReturnFromItsLimitOf100) {
  ClipModel model = make_clip(clip_config());
  model->limit_logit_scale();
  EXPECT_NEAR(model->logit_scale().item<double>(), 1 / 0.07, 1e-4);
  at::Tensor log_scale = model->named_parameters()["logit_scale"];
  {
    const torch::NoGradGuard no_grad;
    log_scale.fill_(std::log(100.0) + 1);
  }
  model->limit_logit_scale();
  const at::Tensor scale = model->logit_scale();
  EXPECT_NEAR(scale.item<double>(), 100, 1e-3);
  scale.backward();
  EXPECT_NEAR(log_scale.grad().item<double>(), 100, 1e-3);
}

TEST(ClipModel, RecomputesTheSameBits) {
  ClipConfig config = clip_config();
  const auto gradients_of = [&](bool recompute) {
    config.recompute = recompute;
    ClipModel model = make_clip(config);
    (model->embed_images(clip_images(4)) * model->embed_captions(clip_captions())).sum().backward();
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : model->parameters())
      if (parameter.grad().defined()) gradients.push_back(parameter.grad().flatten());
    return torch::cat(gradients);
  };
  EXPECT_TRUE(torch::equal(gradients_of(true), gradients_of(false)));
}

TEST(ClipModel, IsInitializedAsPublished) {
  const ClipConfig config{.image_depth = 1,
                          .image_heads = 1,
                          .image_width = 256,
                          .text_depth = 2,
                          .text_heads = 1,
                          .text_width = 128,
                          .embed_dim = 64};
  ClipModel model(config, /*image_size=*/64, /*text_vocab_size=*/100);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  const auto parameters = model->named_parameters();
  const std::pair<std::string, double> expected[] = {
      {"token_embedding", 0.02},
      {"text_position", 0.01},
      {"text_projection.weight", std::pow(128, -0.5)},
      {"text_block_1.attention.query_key_value.weight", std::pow(128, -0.5)},
      {"text_block_1.attention.output.weight", std::pow(128, -0.5) / 2},  // two layers
      {"text_block_2.expand.weight", std::pow(2 * 128, -0.5)},
      {"text_block_2.contract.weight", std::pow(128, -0.5) / 2},
      {"image_position", std::pow(256, -0.5)},
      {"class_embedding", std::pow(256, -0.5)},
      {"image_projection.weight", std::pow(256, -0.5)}};
  for (const auto& [name, stddev] : expected)
    EXPECT_NEAR(parameters[name].std().item<double>() / stddev, 1,
                name == "class_embedding" ? 0.15 : 0.06)
        << name;
}

TEST(ClipModelCost, CountsTheParametersThatTheModelHas) {
  ClipModel model(clip_config(), kClipSize, kClipVocab);
  int64_t parameters = 0, of_images = 0;
  for (const auto& item : model->named_parameters()) {
    parameters += item.value().numel();
    if (item.key().starts_with("image") || item.key().starts_with("class") ||
        item.key().starts_with("patch"))
      of_images += item.value().numel();
  }
  const ClipModelCost cost = clip_model_cost(clip_config(), kClipSize, kClipVocab);
  EXPECT_EQ(cost.parameters(), parameters);
  EXPECT_EQ(cost.image_parameters, of_images);
}

TEST(ClipModelCost, AgreesWithPublishedSizesOfVitB32) {
  // 151,277,313 parameters and 4.4 GFLOP (multiply-adds) an image of 224 pixels, of OpenAI's
  // released model; its 49,408 tokens include the two that are added here.
  const ClipModelCost cost = clip_model_cost(ClipConfig{}, 224, 49'406);
  EXPECT_EQ(cost.parameters(), 151'277'313);
  EXPECT_NEAR(cost.image_flops / 2, 4.4e9, 0.1e9);
}

}  // namespace
}  // namespace dalle
