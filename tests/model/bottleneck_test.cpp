#include "model/bottleneck.h"

#include <cmath>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "model/discrete_vae.h"

namespace dalle {
namespace {

struct BottleneckCase {
  std::string name;
  BottleneckKind bottleneck;
  VqConfig vq = {};
  LogitKind logits = LogitKind::kLinear;
};

void PrintTo(const BottleneckCase& kind, std::ostream* stream) {
  *stream << kind.name;
}

DiscreteVaeConfig config_with(const BottleneckCase& kind) {
  DiscreteVaeConfig config{.groups = 2,
                           .blocks_per_group = 1,
                           .hidden = 8,
                           .vocab_size = 64,
                           .codebook_width = 6,
                           .codebook_init_std = 1.0};
  config.bottleneck = kind.bottleneck;
  config.vq = kind.vq;
  config.logits = kind.logits;
  return config;
}

at::Generator numbers_from(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

/// Latents that are spread enough to have different codes.
DiscreteVae model_with(const DiscreteVaeConfig& config) {
  DiscreteVae vae(config);
  vae->initialize(numbers_from(1));
  const torch::NoGradGuard no_grad;
  auto generator = numbers_from(2);
  for (auto& parameter : vae->named_parameters())
    if (parameter.key().ends_with(".b")) parameter.value().normal_(0.2, 0.3, generator);
  vae->named_parameters()["encoder.blocks.output.conv.w"].mul_(5);
  vae->to(at::kDouble);
  return vae;
}

/// Cells of four by four pixels.
at::Tensor mosaic_images(int64_t batch = 2) {
  const auto cells = torch::rand({batch, 3, 4, 4}, numbers_from(3), torch::kDouble);
  return at::upsample_nearest2d(cells, {16, 16});
}

const std::vector<uint64_t> kNoiseSeeds = {5, 6};

at::Tensor noise_of(const DiscreteVae& vae) {
  const at::Tensor noise = vae->noise(kNoiseSeeds, 16, 16);
  return noise.defined() ? noise.to(at::kDouble) : noise;
}

class BottleneckTest : public testing::TestWithParam<BottleneckCase> {
 protected:
  bool is(BottleneckKind kind) const { return GetParam().bottleneck == kind; }
  const DiscreteVaeConfig config_ = config_with(GetParam());
  DiscreteVae vae_ = model_with(config_);
};

TEST_P(BottleneckTest, AssignsCodesThatDecodeToWhatTrainingDecodes) {
  const auto images = mosaic_images();
  const auto codes = vae_->encode(images);
  EXPECT_EQ(codes.sizes(), at::IntArrayRef({2, 8, 8}));
  EXPECT_GE(codes.min().item<int64_t>(), 0);
  EXPECT_LT(codes.max().item<int64_t>(), 64);
  EXPECT_GT(std::get<0>(at::_unique(codes)).numel(), 1);
  const auto evaluation = vae_->evaluate(images, {noise_of(vae_), 1, 0.5});
  EXPECT_TRUE(torch::equal(evaluation.codes, codes));
  EXPECT_TRUE(torch::equal(evaluation.hard_images, vae_->decode(codes)));
  EXPECT_EQ(evaluation.soft_images.defined(), is(BottleneckKind::kGumbel));
  const auto training = vae_->loss(images, {.kl_weight = 0.5});
  EXPECT_NEAR(training.total.item<double>(), evaluation.loss.total.item<double>(), 1e-12);
  EXPECT_NEAR(training.reconstruction.item<double>(), evaluation.loss.reconstruction.item<double>(),
              1e-12);
}

TEST_P(BottleneckTest, AddsItsTermsToTheReconstruction) {
  const auto loss = vae_->loss(mosaic_images(), {noise_of(vae_), 0.7, 2});
  double total = loss.reconstruction.item<double>();
  std::set<std::string> names;
  for (const LossTerm& term : loss.terms) {
    total += term.value.item<double>() * term.weight;
    names.insert(term.name);
  }
  EXPECT_NEAR(loss.total.item<double>(), total, 1e-12);
  EXPECT_EQ(loss.kl.defined(), is(BottleneckKind::kGumbel));
  const std::set<std::string> expected = is(BottleneckKind::kGumbel) ? std::set<std::string>{"kl"}
                                         : is(BottleneckKind::kFsq)  ? std::set<std::string>{}
                                         : config_.vq.update == CodebookUpdate::kEma
                                             ? std::set<std::string>{"commitment"}
                                             : std::set<std::string>{"commitment", "codebook"};
  EXPECT_EQ(names, expected);
}

TEST_P(BottleneckTest, TrainsEncoderAndDecoder) {
  vae_->loss(mosaic_images(), {noise_of(vae_), 0.7, 2}).total.backward();
  const bool has_fixed_codebook =
      is(BottleneckKind::kVq) && config_.vq.update == CodebookUpdate::kEma;
  for (const auto& parameter : vae_->named_parameters()) {
    const at::Tensor gradient = parameter.value().grad();
    if (parameter.key() == "decoder.blocks.input.w" && has_fixed_codebook) {
      EXPECT_FALSE(gradient.defined());  // it follows by averages
      continue;
    }
    ASSERT_TRUE(gradient.defined()) << parameter.key();
    EXPECT_GT(gradient.abs().max().item<double>(), 0) << parameter.key();
  }
}

// The gradient of everything after the rounding is that of the loss itself, which has no jumps
// there.
TEST_P(BottleneckTest, TheDecodersGradientMatchesFiniteDifferences) {
  const auto images = mosaic_images();
  const auto loss = [&] { return vae_->loss(images, {noise_of(vae_), 0.7, 2}).total; };
  loss().backward();
  const torch::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  for (const auto& parameter : vae_->named_parameters()) {
    auto value = parameter.value();
    if (!parameter.key().starts_with("decoder.") || parameter.key() == "decoder.blocks.input.w")
      continue;
    const auto direction = torch::randn(value.sizes(), numbers_from(4), torch::kDouble);
    value.add_(direction, kStep);
    const double above = loss().item<double>();
    value.add_(direction, -2 * kStep);
    const double below = loss().item<double>();
    value.add_(direction, kStep);
    const double slope = (value.grad() * direction).sum().item<double>();
    EXPECT_NEAR((above - below) / (2 * kStep), slope, 1e-6 + 1e-4 * std::abs(slope))
        << parameter.key();
  }
}

TEST_P(BottleneckTest, DecodesTheSameInTheWeightsOfACopy) {
  DiscreteVae copy(config_);
  copy->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  auto targets = copy->named_parameters();
  for (const auto& parameter : vae_->named_parameters())
    targets[parameter.key()].copy_(parameter.value());
  const auto images = mosaic_images();
  EXPECT_TRUE(torch::equal(copy->encode(images), vae_->encode(images)));
  EXPECT_TRUE(torch::equal(copy->decode(copy->encode(images)), vae_->decode(vae_->encode(images))));
}

TEST_P(BottleneckTest, TheConvolutionsHoldAllParameters) {
  int64_t expected = 0, found = 0;
  const DvaeConvolutions convolutions = dvae_convolutions(config_, 16);
  for (const auto* list : {&convolutions.encoder, &convolutions.decoder})
    for (const ConvolutionShape& shape : *list) expected += shape.parameters();
  for (const at::Tensor& parameter : vae_->parameters()) found += parameter.numel();
  EXPECT_EQ(found, expected);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BottleneckTest,
    testing::Values(BottleneckCase{"gumbel", BottleneckKind::kGumbel},
                    BottleneckCase{
                        "gumbel_distance", BottleneckKind::kGumbel, {}, LogitKind::kDistance},
                    BottleneckCase{"vq", BottleneckKind::kVq},
                    BottleneckCase{"vq_ema", BottleneckKind::kVq, {.update = CodebookUpdate::kEma}},
                    BottleneckCase{"vq_unit_norm", BottleneckKind::kVq, {.unit_norm = true}},
                    BottleneckCase{"fsq", BottleneckKind::kFsq}),
    [](const auto& test) { return test.param.name; });

// A VQ-VAE with the same weights has the vectors and the codebook that the logits are made of.
TEST(GumbelBottleneck, LogitsCanBeNegativeSquaredDistances) {
  DiscreteVae vae =
      model_with(config_with({"", BottleneckKind::kGumbel, {}, LogitKind::kDistance}));
  DiscreteVae vq = model_with(config_with({"", BottleneckKind::kVq}));
  const torch::NoGradGuard no_grad;
  const auto images = mosaic_images();
  EXPECT_TRUE(torch::equal(vae->encode(images), vq->encode(images)));
  const auto vectors = vq->logits(images).permute({0, 2, 3, 1}).reshape({-1, 6});  // [N, D]
  const auto distances = at::cdist(vectors, vq->codebook().flatten(1).t());        // [N, K]
  const auto logits = vae->logits(images).permute({0, 2, 3, 1}).reshape({-1, 64});
  EXPECT_TRUE(torch::allclose(logits.softmax(1), distances.square().neg().softmax(1), 1e-6, 1e-12));
}

// Without commitment and KL, the encoder's output has the gradient of the decoder's input: so have
// their biases.
TEST(VectorBottleneck, TheEncoderGetsTheDecodersGradientUnchanged) {
  DiscreteVae vae = model_with(config_with({"", BottleneckKind::kVq, {.commitment = 0}}));
  vae->loss(mosaic_images(), {}).total.backward();
  auto parameters = vae->named_parameters();
  EXPECT_TRUE(torch::allclose(parameters["encoder.blocks.output.conv.b"].grad(),
                              parameters["decoder.blocks.input.b"].grad(), 1e-9, 1e-15));
}

TEST(VectorBottleneck, TheLossesPullEncoderAndCodesTowardsEachOther) {
  DiscreteVae vae = model_with(config_with({"", BottleneckKind::kVq, {.commitment = 0.5}}));
  const auto images = mosaic_images();
  const auto latents = vae->logits(images).detach();  // [B, D, h, w]
  const auto codes = vae->encode(images);
  const auto loss = vae->loss(images, {});
  const at::Tensor codebook = vae->codebook().detach().flatten(1);  // [D, K]
  const auto chosen = codebook.t().index_select(0, codes.flatten()).view({2, 8, 8, 6});
  const auto squares = (latents.permute({0, 2, 3, 1}) - chosen).square().mean();
  for (const LossTerm& term : loss.terms)
    EXPECT_NEAR(term.value.item<double>(), squares.item<double>(), 1e-12) << term.name;
  loss.total.backward();
  const at::Tensor gradient = vae->named_parameters()["decoder.blocks.input.w"].grad().flatten(1);
  const auto vectors = latents.permute({0, 2, 3, 1}).reshape({-1, 6});
  at::Tensor expected = torch::zeros({6, 64}, torch::kDouble);
  for (int64_t i = 0; i < vectors.size(0); ++i) {
    const int64_t code = codes.flatten()[i].item<int64_t>();
    expected.select(1, code) +=
        2 * (codebook.select(1, code) - vectors[i]) / static_cast<double>(vectors.numel());
  }
  EXPECT_TRUE(torch::allclose(gradient, expected, 1e-9, 1e-14));
}

TEST(VectorBottleneck, UnitNormComparesAngles) {
  DiscreteVae vae = model_with(config_with({"", BottleneckKind::kVq, {.unit_norm = true}}));
  EXPECT_TRUE(torch::allclose(vae->codebook().flatten(1).norm(2, {0}),
                              torch::ones({64}, torch::kDouble), 0, 1e-6));
  const auto images = mosaic_images();
  const auto cosines =
      at::einsum("bdhw,dk->bkhw", {vae->logits(images), vae->codebook().flatten(1)});
  EXPECT_TRUE(torch::equal(vae->encode(images), cosines.argmax(1)));
}

TEST(ScalarBottleneck, LevelsNeedNotBePowersOfTwo) {
  DiscreteVaeConfig config = config_with({"", BottleneckKind::kFsq});
  config.fsq_levels = {8, 6, 5};
  config.vocab_size = 240;
  EXPECT_EQ(DiscreteVae(config)->config().levels(), config.fsq_levels);
  for (const int64_t size : {64, 256, 512, 1024, 4096, 8192, 16384, 65536}) {
    EXPECT_EQ(product_of(default_fsq_levels(size)), size);
    for (const int64_t level : default_fsq_levels(size)) EXPECT_GE(level, 5) << size;
  }
}

}  // namespace
}  // namespace dalle
