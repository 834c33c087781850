#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "model/discrete_vae.h"

namespace dalle {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

int64_t count_with_prefix(const DiscreteVae& vae, const std::string& prefix) {
  int64_t count = 0;
  for (const auto& parameter : vae->named_parameters())
    if (parameter.key().starts_with(prefix)) count += parameter.value().numel();
  return count;
}

void add_convolution(Shapes& shapes, const std::string& name, int64_t in, int64_t out, int64_t k) {
  shapes[name + ".w"] = {out, in, k, k};
  shapes[name + ".b"] = {out};
}

void add_group(Shapes& shapes, const std::string& name, int64_t in, int64_t out,
               const std::vector<int64_t>& kernels) {
  for (const std::string block : {".block_1", ".block_2"}) {
    const int64_t block_in = block == ".block_1" ? in : out;
    if (block_in != out) add_convolution(shapes, name + block + ".id_path", block_in, out, 1);
    const std::string path = name + block + ".res_path.conv_";
    add_convolution(shapes, path + "1", block_in, out / 4, kernels[0]);
    add_convolution(shapes, path + "2", out / 4, out / 4, kernels[1]);
    add_convolution(shapes, path + "3", out / 4, out / 4, kernels[2]);
    add_convolution(shapes, path + "4", out / 4, out, kernels[3]);
  }
}

// The tables of the published encoder and decoder, row by row.
Shapes published_shapes() {
  Shapes shapes;
  const std::vector<int64_t> encoder_kernels{3, 3, 3, 1};
  add_convolution(shapes, "encoder.blocks.input", 3, 256, 7);
  add_group(shapes, "encoder.blocks.group_1", 256, 256, encoder_kernels);
  add_group(shapes, "encoder.blocks.group_2", 256, 512, encoder_kernels);
  add_group(shapes, "encoder.blocks.group_3", 512, 1024, encoder_kernels);
  add_group(shapes, "encoder.blocks.group_4", 1024, 2048, encoder_kernels);
  add_convolution(shapes, "encoder.blocks.output.conv", 2048, 8192, 1);
  const std::vector<int64_t> decoder_kernels{1, 3, 3, 3};
  add_convolution(shapes, "decoder.blocks.input", 8192, 128, 1);
  add_group(shapes, "decoder.blocks.group_1", 128, 2048, decoder_kernels);
  add_group(shapes, "decoder.blocks.group_2", 2048, 1024, decoder_kernels);
  add_group(shapes, "decoder.blocks.group_3", 1024, 512, decoder_kernels);
  add_group(shapes, "decoder.blocks.group_4", 512, 256, decoder_kernels);
  add_convolution(shapes, "decoder.blocks.output.conv", 256, 6, 1);
  return shapes;
}

TEST(DiscreteVaeParametersTest, DefaultsHaveThePublishedNamesAndShapes) {
  const DiscreteVae vae(DiscreteVaeConfig{});
  Shapes shapes;
  for (const auto& parameter : vae->named_parameters())
    shapes[parameter.key()] = parameter.value().sizes().vec();
  EXPECT_EQ(shapes.size(), 150);
  EXPECT_EQ(shapes, published_shapes());
  EXPECT_EQ(count_with_prefix(vae, "encoder."), 53'786'240);
  EXPECT_EQ(count_with_prefix(vae, "decoder."), 43'829'766);
  EXPECT_EQ(count_with_prefix(vae, ""), 97'616'006);
  EXPECT_TRUE(vae->buffers().empty());
}

TEST(DiscreteVaeParametersTest, SmallerSizesHaveTheExpectedParameterCounts) {
  struct Row {
    int64_t hidden, vocab_size, blocks_per_group, codebook_width, encoder, decoder;
  };
  for (const Row& row :
       {Row{64, 512, 1, 8, 1'321'744, 1'402'334}, Row{64, 512, 2, 32, 2'585'504, 2'693'766},
        Row{128, 1024, 2, 64, 10'313'536, 10'765'574}}) {
    const DiscreteVae vae(DiscreteVaeConfig{.blocks_per_group = row.blocks_per_group,
                                            .hidden = row.hidden,
                                            .vocab_size = row.vocab_size,
                                            .codebook_width = row.codebook_width});
    EXPECT_EQ(count_with_prefix(vae, "encoder."), row.encoder);
    EXPECT_EQ(count_with_prefix(vae, "decoder."), row.decoder);
  }
}

TEST(DiscreteVaeParametersTest, ResidualGainIsTheInverseSquareOfTheBlocksUnlessGiven) {
  EXPECT_DOUBLE_EQ(DiscreteVaeConfig{}.residual_gain(), 1.0 / 64);
  EXPECT_DOUBLE_EQ(DiscreteVaeConfig{.blocks_per_group = 1}.residual_gain(), 1.0 / 16);
  EXPECT_DOUBLE_EQ(DiscreteVaeConfig{.post_gain = 0.25}.residual_gain(), 0.25);
}

TEST(DiscreteVaeParametersTest, InitializationTakesEveryWeightFromTheGenerator) {
  const DiscreteVaeConfig config{.groups = 2, .hidden = 64, .vocab_size = 64, .codebook_width = 64};
  const auto initialised = [](const DiscreteVaeConfig& c, uint64_t seed) {
    DiscreteVae vae(c);
    vae->initialize(at::make_generator<at::CPUGeneratorImpl>(seed));
    return vae;
  };
  const auto vae = initialised(config, 1);
  const auto again = initialised(config, 1)->named_parameters();
  const auto other = initialised(config, 2)->named_parameters();
  for (const auto& parameter : vae->named_parameters()) {
    const auto& value = parameter.value();
    EXPECT_TRUE(torch::equal(value, again[parameter.key()])) << parameter.key();
    if (parameter.key().ends_with(".b")) {
      EXPECT_EQ(value.count_nonzero().item<int64_t>(), 0) << parameter.key();
      continue;
    }
    EXPECT_FALSE(torch::equal(value, other[parameter.key()])) << parameter.key();
    const double unit = value.std().item<double>() * std::sqrt(value[0].numel());
    EXPECT_NEAR(unit, 1.0, 5.0 / std::sqrt(2.0 * value.numel())) << parameter.key();
  }
}

TEST(DiscreteVaeParametersTest, CodebookInitStdAffectsOnlyTheCodebook) {
  DiscreteVaeConfig config{.groups = 1, .hidden = 8, .vocab_size = 64, .codebook_width = 32};
  DiscreteVae published(config);
  config.codebook_init_std = 1.0;
  DiscreteVae wide(config);
  published->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  wide->initialize(at::make_generator<at::CPUGeneratorImpl>(1));
  const auto before = published->named_parameters();
  for (const auto& parameter : wide->named_parameters()) {
    const auto& value = parameter.value();
    const double factor = parameter.key() == "decoder.blocks.input.w" ? 8.0 : 1.0;
    EXPECT_TRUE(torch::allclose(value, factor * before[parameter.key()])) << parameter.key();
  }
  EXPECT_NEAR(wide->named_parameters()["decoder.blocks.input.w"].std().item<double>(), 1.0, 0.1);
}

}  // namespace
}  // namespace dalle
