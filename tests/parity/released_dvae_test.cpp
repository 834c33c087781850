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

#include "core/files.h"
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

TEST(ReleasedDvaeTest, ReadsEveryFloatingPointTypeAndSeveralBlocks) {
  const TemporaryDirectory folder;
  const DiscreteVaeConfig config = {
      .groups = 2, .blocks_per_group = 2, .hidden = 8, .vocab_size = 6, .codebook_width = 5};
  const NamedTensors weights = weights_of(*DiscreteVae(config));
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    NamedTensors stored;
    for (const auto& [name, tensor] : weights) stored.emplace_back(name, tensor.to(type));
    write_safetensors(folder / "both.safetensors", stored);
    const DiscreteVae vae = read({folder / "both.safetensors"});
    EXPECT_EQ(vae->config(), config) << type;
    const NamedTensors read_back = weights_of(*vae);
    ASSERT_EQ(read_back.size(), stored.size());
    for (size_t i = 0; i < stored.size(); ++i)
      EXPECT_TRUE(read_back[i].second.equal(stored[i].second.to(at::kFloat))) << stored[i].first;
  }
}

/// decoder.pkl with another post_gain; its container has no checksums.
void write_decoder(const fs::path& path, const std::string& gain) {
  const std::string sixteenth("G\x3f\xb0\0\0\0\0\0\0", 9);
  std::string bytes = read_file(kFolder / "decoder.pkl");
  for (size_t at; (at = bytes.find(sixteenth)) != bytes.npos;) bytes.replace(at, 9, gain);
  write_file_atomically(path, bytes);
}

TEST(ReleasedDvaeTest, TakesThePostGainOfTheModules) {
  const TemporaryDirectory folder;
  const fs::path decoder = folder / "decoder.pkl";
  write_decoder(decoder, std::string("G\x3f\xc0\0\0\0\0\0\0", 9));
  // FLAVA's encoder is a state dict, which has none.
  EXPECT_EQ(read({kFolder / "flava.bin", decoder})->config().post_gain, 0.125);
  EXPECT_THAT(error_of([&] {
                read({kFolder / "encoder.pkl", decoder});
              }),
              HasSubstr("different post_gain"));
  for (const std::string gain : {"\x7f\xf8", "\xbf\xc0", "\x40\x01"}) {  // NaN, -0.125, 2.1
    write_decoder(decoder, "G" + gain + std::string(6, '\0'));
    EXPECT_THAT(error_of([&] {
                  read({kFolder / "flava.bin", decoder});
                }),
                HasSubstr("expected more than 0 and at most 1"));
  }
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
  for (auto& [name, tensor] : changed)
    if (name == "blocks.input.w") tensor = torch::zeros({4, 0, 7, 7});
  EXPECT_THAT(error_of_encoder(changed),
              HasSubstr("encoder.blocks.input.w of four dimensions that"));
  changed = tensors;
  for (auto& [name, tensor] : changed)
    if (name.starts_with("blocks.group_1.")) name.replace(0, 15, "blocks.group_9.");
  EXPECT_THAT(error_of_encoder(changed), HasSubstr("found 0 groups, expected 1 to 7"));
  changed = tensors;
  for (int i = 0; i < 100; ++i) changed.emplace_back(std::to_string(i), torch::zeros({1}));
  EXPECT_THAT(error_of_encoder(changed),
              HasSubstr("unexpected encoder.0, encoder.1, encoder.10, "));
  EXPECT_THAT(error_of_encoder(changed), HasSubstr(" and 90 more"));
}

}  // namespace
}  // namespace dalle
