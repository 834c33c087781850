#include "model/dalle_model.h"

#include <cmath>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/fields.h"
#include "model/plain_dalle.h"

namespace dalle {
namespace {

constexpr SequenceLayout kLayout{.text_length = 6, .grid_height = 4, .grid_width = 4};
constexpr int64_t kTextVocab = 11, kImageVocab = 7;

TransformerConfig small_config() {
  TransformerConfig config;
  config.depth = 3;
  config.heads = 2;
  config.width = 8;
  config.text_length = kLayout.text_length;
  config.attention = {AttentionKind::kRow, AttentionKind::kColumn};
  config.conv_kernel = 3;
  config.init = TransformerInit::kNormal002;
  return config;
}

DalleModel small_model(const TransformerConfig& config = small_config(), double scale = 20) {
  DalleModel model(config, kLayout, kTextVocab, kImageVocab);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;  // far from the linear regime, so that no error stays small
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 2) parameter *= scale;
  model->to(torch::kDouble);
  return model;
}

at::Tensor captions_of(std::vector<std::vector<int64_t>> tokens) {
  auto captions = torch::full({static_cast<int64_t>(tokens.size()), kLayout.max_caption_tokens()},
                              kPadToken, torch::kLong);
  for (size_t b = 0; b < tokens.size(); ++b)
    for (size_t i = 0; i < tokens[b].size(); ++i)
      captions[static_cast<int64_t>(b)][static_cast<int64_t>(i)] = tokens[b][i];
  return captions;
}

struct Input {
  at::Tensor captions = captions_of({{1, 2, 3}, {10, 9, 8, 7, 6}});
  at::Tensor codes = torch::randint(0, kImageVocab, {2, 16}, torch::kLong);
};

/// Runs the blocks on given embeddings: the rest of the model after the embeddings.
at::Tensor states_from(DalleModel& model, at::Tensor x) {
  const auto modules = model->named_modules();
  for (int layer = 1; layer <= 3; ++layer)
    x = modules["block_" + std::to_string(layer)]->as<TransformerBlockImpl>()->forward(x, 0);
  return modules["norm"]->as<LayerNormImpl>()->forward(x);
}

TEST(DalleModel, LaysOutItsSequenceAsInFigure10) {
  auto model = small_model();
  const Input input;
  const auto p = model->named_parameters();
  std::vector<at::Tensor> sequences;
  for (int64_t b = 0; b < 2; ++b) {
    std::vector<at::Tensor> states{p["start_of_text"] + p["text_position"][0]};
    for (int64_t slot = 1; slot < 6; ++slot) {
      const auto token = input.captions[b][slot - 1].item<int64_t>();
      states.push_back(token == kPadToken ? p["pad_embedding"][slot]
                                          : p["text_embedding"][token] + p["text_position"][slot]);
    }
    for (int64_t slot = 0; slot < 16; ++slot) {
      const auto place = p["row_position"][slot / 4] + p["column_position"][slot % 4];
      states.push_back((slot == 0
                            ? p["start_of_image"]
                            : p["image_embedding"][input.codes[b][slot - 1].item<int64_t>()]) +
                       place);
    }
    sequences.push_back(torch::stack(states));
  }
  EXPECT_TRUE(torch::allclose(model->hidden_states(input.captions, input.codes),
                              states_from(model, torch::stack(sequences)), 1e-10, 1e-12));
}

TEST(DalleModel, LossIsTheWeightedSumOfTwoMeans) {
  auto model = small_model();
  const Input input;
  const auto states = model->hidden_states(input.captions, input.codes);
  const auto p = model->named_parameters();
  double text = 0, image = 0;
  int64_t text_tokens = 0;
  for (int64_t b = 0; b < 2; ++b) {
    // Position p predicts caption token p; the last text position predicts nothing.
    for (int64_t slot = 0; slot < 5; ++slot) {
      const auto target = input.captions[b][slot].item<int64_t>();
      if (target == kPadToken) continue;
      text -= p["text_head.weight"].mv(states[b][slot]).log_softmax(0)[target].item<double>();
      ++text_tokens;
    }
    for (int64_t slot = 0; slot < 16; ++slot)
      image -= p["image_head.weight"]
                   .mv(states[b][6 + slot])
                   .log_softmax(0)[input.codes[b][slot].item<int64_t>()]
                   .item<double>();
  }
  const LossCounts counts = model->count_targets(input.captions);
  EXPECT_EQ(counts.text_tokens, text_tokens);
  EXPECT_EQ(counts.image_tokens, 32);
  const DalleLoss loss = model->loss(input.captions, input.codes, counts);
  EXPECT_NEAR(loss.text.item<double>(), text / 8, 1e-9);
  EXPECT_NEAR(loss.image.item<double>(), image / 32, 1e-9);
  EXPECT_NEAR(loss.total.item<double>(), text / 8 / 8 + image / 32 * 7 / 8, 1e-9);
}

TEST(DalleModel, EqualsAPlainImplementationInLossAndAllGradients) {
  for (const auto activation : {Activation::kGelu, Activation::kQuickGelu}) {
    TransformerConfig config = small_config();
    config.depth = 4;
    config.attention = {AttentionKind::kRow, AttentionKind::kColumn, AttentionKind::kDense};
    config.activation = activation;
    auto model = small_model(config);
    PlainDalle plain{.config = config, .layout = kLayout, .parameters = {}};
    for (const auto& item : model->named_parameters())
      plain.parameters[item.key()] = item.value().detach().clone().requires_grad_();

    const std::vector<std::vector<int64_t>> captions = {{1, 2, 3}, {10, 9, 8, 7, 6}, {}};
    const auto codes = torch::randint(0, kImageVocab, {3, 16}, torch::kLong);
    std::vector<std::vector<int64_t>> code_lists;
    for (int64_t b = 0; b < 3; ++b)
      code_lists.emplace_back(codes.const_data_ptr<int64_t>() + 16 * b,
                              codes.const_data_ptr<int64_t>() + 16 * (b + 1));
    const auto expected = plain.loss(captions, code_lists);
    expected.backward();

    const auto padded = captions_of(captions);
    const auto loss = model->loss(padded, codes, model->count_targets(padded)).total;
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-10);
    for (const auto& item : model->named_parameters()) {
      const auto& gradient = plain.parameters.at(item.key()).grad();
      EXPECT_TRUE(torch::allclose(item.value().grad(), gradient, 1e-7, 1e-10)) << item.key();
      EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << item.key();
    }
  }
}

TEST(DalleModel, InitializesItsWeightsLikeTheSparseTransformer) {
  TransformerConfig config = small_config();
  config.init = TransformerInit::kSparseTransformer;
  config.width = 64;
  config.depth = 2;
  const SequenceLayout layout{.text_length = 64, .grid_height = 32, .grid_width = 32};
  DalleModel model(config, layout, 300, 200);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const auto parameters = model->named_parameters();
  const double one = 0.125 / std::sqrt(64.0), branch = 1 / std::sqrt(2.0 * 2);
  const std::vector<std::pair<std::string, double>> stddevs = {
      {"text_embedding", one},
      {"image_embedding", one},
      {"pad_embedding", one},
      {"text_position", one},
      {"row_position", one / std::sqrt(2.0)},
      {"column_position", one / std::sqrt(2.0)},
      {"block_1.attention.query_key_value.weight", one},
      {"block_1.attention.output.weight", one * branch},
      {"block_2.expand.weight", one},
      {"block_2.contract.weight", one / 2 * branch}};
  for (const auto& [name, stddev] : stddevs) {
    EXPECT_NEAR(parameters[name].std().item<double>() / stddev, 1.0, 0.06) << name;
    EXPECT_NEAR(parameters[name].mean().item<double>() / stddev, 0.0, 0.1) << name;
  }
  for (const auto& item : parameters) {
    if (item.key().ends_with("gain")) {
      EXPECT_TRUE(item.value().eq(1).all().item<bool>()) << item.key();
    }
    if (item.key().ends_with("bias") || item.key().ends_with("head.weight")) {
      EXPECT_TRUE(item.value().eq(0).all().item<bool>()) << item.key();
    }
  }
}

TEST(DalleModel, IsZeroUntilInitialized) {
  const DalleModel model(small_config(), kLayout, kTextVocab, kImageVocab);
  for (const auto& item : model->named_parameters())
    EXPECT_TRUE(item.value().eq(0).all().item<bool>()) << item.key();
}

TEST(DalleModel, StartsWithUniformLogitsAndTheirLoss) {
  TransformerConfig config = small_config();
  config.init = TransformerInit::kSparseTransformer;
  DalleModel model(config, kLayout, 16384, 8192);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const Input input;
  const DalleLoss loss =
      model->loss(input.captions, input.codes, model->count_targets(input.captions));
  EXPECT_NEAR(loss.text.item<float>(), 9.7041, 1e-3);
  EXPECT_NEAR(loss.image.item<float>(), 9.0109, 1e-3);
  EXPECT_NEAR(loss.total.item<float>(), 9.0976, 1e-3);
}

TEST(DalleModel, MicroBatchesAddUpToTheGlobalBatch) {
  auto model = small_model();
  const Input input;
  const LossCounts counts = model->count_targets(input.captions);
  const double full = model->loss(input.captions, input.codes, counts).total.item<double>();
  double sum = 0;
  for (int64_t b = 0; b < 2; ++b)
    sum += model->loss(input.captions.slice(0, b, b + 1), input.codes.slice(0, b, b + 1), counts)
               .total.item<double>();
  EXPECT_NEAR(sum, full, 1e-10);
}

TEST(DalleModel, IsCausal) {
  auto model = small_model();
  const Input input;
  const auto before = model->hidden_states(input.captions, input.codes);
  for (int64_t changed = 0; changed < 15; ++changed) {
    auto codes = input.codes.clone();
    codes.select(1, changed).add_(1).remainder_(kImageVocab);
    const auto moved = (model->hidden_states(input.captions, codes) - before).abs().amax({0, 2});
    EXPECT_EQ(moved.slice(0, 0, 6 + changed + 1).max().item<double>(), 0.0)
        << changed;  // code s is the input of image position s + 1
    EXPECT_GT(moved[6 + changed + 1].item<double>(), 0.0) << changed;
  }
  auto captions = input.captions.clone();
  captions[1][2] = 0;  // the input of text position 3
  const auto moved = (model->hidden_states(captions, input.codes) - before).abs().amax(2)[1];
  EXPECT_EQ(moved.slice(0, 0, 3).max().item<double>(), 0.0);
  EXPECT_GT(moved.slice(0, 3).min().item<double>(),
            0.0);  // all later text states and all image states attend to it
}

TEST(DalleModel, CachedDecodingGivesTheLogitsOfTheFullForwardPass) {
  for (const auto& [kind, name] : enum_names(AttentionKind{})) {
    TransformerConfig config = small_config();
    config.attention = {kind};
    auto model = small_model(config);
    const torch::NoGradGuard no_grad;
    const Input input;
    const auto head = model->named_parameters()["image_head.weight"];
    const auto full =
        model->hidden_states(input.captions, input.codes).slice(1, 6).matmul(head.t());
    DecodeState state = model->prefill(input.captions);
    for (int64_t slot = 0; slot < 16; ++slot) {
      const auto previous =
          slot == 0 ? torch::zeros({2}, torch::kLong) : input.codes.select(1, slot - 1);
      EXPECT_TRUE(torch::allclose(model->decode_step(state, previous).to(torch::kDouble),
                                  full.select(1, slot), 1e-5, 1e-5))
          << name << " " << slot;
    }
  }
}

TEST(DalleModel, GradientMatchesFiniteDifferences) {
  auto model = small_model(small_config(), 8);
  const Input input;
  const LossCounts counts = model->count_targets(input.captions);
  model->loss(input.captions, input.codes, counts).total.backward();
  constexpr double kStep = 1e-6;
  const torch::NoGradGuard no_grad;
  for (const auto& item : model->named_parameters()) {
    const auto values = item.value().flatten(), gradient = item.value().grad().flatten();
    for (const int64_t i : {int64_t{0}, values.numel() / 2}) {
      const double value = values[i].item<double>();
      values[i] = value + kStep;
      const double above = model->loss(input.captions, input.codes, counts).total.item<double>();
      values[i] = value - kStep;
      const double below = model->loss(input.captions, input.codes, counts).total.item<double>();
      values[i] = value;
      EXPECT_NEAR(gradient[i].item<double>(), (above - below) / (2 * kStep), 1e-7) << item.key();
    }
  }
}

TEST(DalleModel, RecomputationChangesNoBits) {
  const Input input;
  std::vector<at::Tensor> gradients[2];
  for (const bool recompute : {false, true}) {
    TransformerConfig config = small_config();
    config.recompute = recompute;
    config.dropout = 0.2;
    auto model = small_model(config);
    model->loss(input.captions, input.codes, model->count_targets(input.captions), 5)
        .total.backward();
    for (const auto& parameter : model->parameters())
      gradients[recompute].push_back(parameter.grad());
  }
  for (size_t i = 0; i < gradients[0].size(); ++i)
    EXPECT_TRUE(torch::equal(gradients[0][i], gradients[1][i])) << i;
}

TEST(DalleModel, CanPredictPadding) {
  TransformerConfig config = small_config();
  config.text_loss_includes_padding = true;
  auto model = small_model(config);
  const Input input;
  EXPECT_EQ(model->count_targets(input.captions).text_tokens, 10);
  EXPECT_EQ(model->named_parameters()["text_head.weight"].size(0), kTextVocab + 6);
  EXPECT_TRUE(
      std::isfinite(model->loss(input.captions, input.codes, model->count_targets(input.captions))
                        .total.item<double>()));
}

TEST(DalleModel, AcceptsAnEmptyCaption) {
  auto model = small_model();
  const auto captions = captions_of({{}});
  const LossCounts counts = model->count_targets(captions);
  EXPECT_EQ(counts.text_tokens, 0);
  const DalleLoss loss = model->loss(captions, torch::zeros({1, 16}, torch::kLong), counts);
  EXPECT_EQ(loss.text.item<double>(), 0.0);
  EXPECT_TRUE(std::isfinite(loss.total.item<double>()));
}

TEST(DalleModel, InBfloat16IsCloseToFloat32) {
  DalleModel exact(small_config(), kLayout, kTextVocab, kImageVocab, Precision::kFloat32);
  DalleModel rounded(small_config(), kLayout, kTextVocab, kImageVocab, Precision::kBfloat16);
  for (auto* model : {&exact, &rounded})
    (*model)->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const Input input;
  const LossCounts counts = exact->count_targets(input.captions);
  const float loss = exact->loss(input.captions, input.codes, counts).total.item<float>();
  EXPECT_NEAR(rounded->loss(input.captions, input.codes, counts).total.item<float>(), loss,
              0.01 * loss);
}

TEST(DalleModel, DecodesWithACacheInBfloat16) {
  DalleModel model(small_config(), kLayout, kTextVocab, kImageVocab, Precision::kBfloat16);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 2) parameter *= 20;
  const Input input;
  const auto head = model->named_parameters()["image_head.weight"];
  const auto full = model->hidden_states(input.captions, input.codes).slice(1, 6).matmul(head.t());
  const double spread = full.std().item<double>();
  DecodeState state = model->prefill(input.captions);
  for (int64_t slot = 0; slot < 16; ++slot) {
    const auto previous =
        slot == 0 ? torch::zeros({2}, torch::kLong) : input.codes.select(1, slot - 1);
    const auto logits = model->decode_step(state, previous);
    EXPECT_LT((logits - full.select(1, slot)).abs().max().item<double>(), 0.05 * spread) << slot;
  }
}

TEST(DalleModel, ComputesFloat32LogitsUnderBfloat16) {
  DalleModel model(small_config(), kLayout, kTextVocab, kImageVocab, Precision::kBfloat16);
  model->initialize(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;
  DecodeState state = model->prefill(Input().captions);
  const auto logits = model->decode_step(state, torch::zeros({2}, torch::kLong));
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  EXPECT_FALSE(torch::equal(logits, logits.to(at::kBFloat16).to(at::kFloat)));
}

}  // namespace
}  // namespace dalle
