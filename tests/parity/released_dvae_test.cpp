// A dVAE of OpenAI's released classes (PyPI DALL-E 0.1, PyTorch 2.11): tests/fixtures/
// write_released_dvae.py saved it as they saved theirs, and what it computes.

#include "model/released_dvae.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "error_of.h"
#include "temporary_directory.h"
#include "tensor/named_tensors.h"
#include "tensor/torch_tensors.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const fs::path kFolder = "tests/fixtures/released_dvae";

DiscreteVae read(const std::vector<fs::path>& files) {
  return read_released_dvae(files);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void expect_released_results(DiscreteVae vae) {
  std::map<std::string, at::Tensor> expected;
  for (const auto& [name, tensor] : read_safetensors(kFolder / "expected.safetensors").tensors)
    expected[name] = tensor;
  const torch::NoGradGuard no_grad;
  const at::Tensor image = expected.at("image"), codes = expected.at("codes");
  EXPECT_LE(difference(vae->logits(image), expected.at("logits")), 1e-4);
  EXPECT_TRUE(vae->encode(image).equal(codes));
  EXPECT_LE(difference(vae->decode(codes), expected.at("reconstruction")), 1e-5);
}

TEST(ReleasedDvaeTest, ComputesWhatTheReleasedCodeDoes) {
  DiscreteVae vae = read({kFolder / "encoder.pkl", kFolder / "decoder.pkl"});
  EXPECT_EQ(
      vae->config(),
      (DiscreteVaeConfig{
          .groups = 4, .blocks_per_group = 1, .hidden = 4, .vocab_size = 16, .codebook_width = 8}));
  expect_released_results(vae);
  expect_released_results(read({kFolder / "decoder.pkl", kFolder / "encoder.pkl"}));
}

TEST(ReleasedDvaeTest, ReadsFlavasEncoder) {
  expect_released_results(read({kFolder / "flava.bin", kFolder / "decoder.pkl"}));
}

TEST(ReleasedDvaeTest, ReadsOneSafetensorsFileOfBoth) {
  const TemporaryDirectory folder;
  NamedTensors tensors;
  for (const std::string part : {"encoder", "decoder"})
    for (const auto& [name, tensor] : read_foreign_tensors(kFolder / (part + ".pkl")).tensors)
      tensors.emplace_back(part + "." + name, tensor);
  write_safetensors(folder / "both.safetensors", tensors);
  expect_released_results(read({folder / "both.safetensors"}));
}

TEST(ReleasedDvaeTest, NeedsAnEncoderAndADecoder) {
  EXPECT_THAT(error_of([] { read({kFolder / "flava.bin"}); }),
              AllOf(HasSubstr("flava.bin: found an encoder alone"), HasSubstr("decoder.pkl")));
  EXPECT_THAT(error_of([] { read({kFolder / "decoder.pkl"}); }), HasSubstr("found no encoder"));
  EXPECT_THAT(error_of([] {
                read({kFolder / "encoder.pkl", kFolder / "flava.bin"});
              }),
              HasSubstr("flava.bin: found encoder.blocks.input.w a second time"));
  EXPECT_THAT(error_of([] { read({kFolder / "expected.safetensors"}); }),
              HasSubstr("expected the encoder or decoder of OpenAI's dVAE"));
}

TEST(ReleasedDvaeTest, NamesTheTensorsThatDoNotFit) {
  const TemporaryDirectory folder;
  NamedTensors tensors = read_foreign_tensors(kFolder / "encoder.pkl").tensors;
  const auto error_of_encoder = [&](const NamedTensors& changed) {
    write_safetensors(folder / "encoder.safetensors", changed);
    return error_of([&] { read({folder / "encoder.safetensors", kFolder / "decoder.pkl"}); });
  };
  NamedTensors changed = tensors;
  for (auto& [name, tensor] : changed)
    if (name == "blocks.group_2.block_1.id_path.w") name = "blocks.group_2.block_1.w";
  EXPECT_THAT(error_of_encoder(changed),
              AllOf(HasSubstr("missing encoder.blocks.group_2.block_1.id_path.w"),
                    HasSubstr("unexpected encoder.blocks.group_2.block_1.w")));
  changed = tensors;
  for (auto& [name, tensor] : changed)
    if (name == "blocks.input.w") tensor = torch::zeros({20'000, 3, 7, 7});
  EXPECT_THAT(error_of_encoder(changed), HasSubstr("20000 channels and 16 codes has"));
}

}  // namespace
}  // namespace dalle
