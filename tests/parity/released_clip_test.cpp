// A tiny CLIP model with random weights: tests/fixtures/write_clip.py saved it under two schemes of
// names, and what transformers' CLIPModel (5.24, PyTorch 2.11) computes.

#include "model/released_clip.h"

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/files.h"
#include "data/batch.h"
#include "data/text/clip_tokenizer.h"
#include "error_of.h"
#include "temporary_directory.h"
#include "tensor/named_tensors.h"
#include "tensor/torch_tensors.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const fs::path kClipFolder = "tests/fixtures/clip";
const std::pair<const char*, const char*> kFiles[] = {
    {"model.safetensors", "vision_model.embeddings.position_embedding.weight"},
    {"open_clip.bin", "visual.positional_embedding"}};

const ReleasedClipOptions kOptions{.text_vocab_size = 648,
                                   .activation = Activation::kQuickGelu,
                                   .image_heads = 4,
                                   .text_heads = 2};

double most(const at::Tensor& difference) {
  return difference.abs().max().item<double>();
}

/// The captions of the fixture as the model reads them.
at::Tensor fixture_captions(int64_t length) {
  const ClipTokenizer tokenizer(read_file(kClipFolder / "vocab.json"),
                                read_file(kClipFolder / "merges.txt"));
  std::vector<at::Tensor> rows;
  for (const auto& one : nlohmann::json::parse(read_file(kClipFolder / "captions.json")))
    rows.push_back(pad_caption(tokenizer.encode(one.at("caption").get<std::string>()), length));
  return torch::stack(rows);
}

TEST(ReleasedClipTest, ComputesWhatTransformersComputesWithEitherNames) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> expected;
  for (const auto& [name, tensor] : read_safetensors(kClipFolder / "expected.safetensors").tensors)
    expected[name] = tensor;
  for (const auto& [file, position] : kFiles) {
    ReleasedClip clip = read_released_clip(kClipFolder / file, kOptions);
    EXPECT_EQ(clip.image_size, 32);
    EXPECT_EQ(clip.model->config(), (ClipConfig{.patch_size = 8,
                                                .image_depth = 2,
                                                .image_heads = 4,
                                                .image_width = 32,
                                                .text_depth = 2,
                                                .text_heads = 2,
                                                .text_width = 16,
                                                .text_length = 77,
                                                .embed_dim = 16}));
    const at::Tensor images = expected.at("images").to(at::kFloat) / 255;
    EXPECT_LE(most(clip.model->embed_images(images) - expected.at("image_embeddings")), 1e-4)
        << file;
    const at::Tensor captions = clip.model->embed_captions(fixture_captions(75));
    EXPECT_LE(most(captions - expected.at("caption_embeddings")), 1e-4) << file;
  }
}

TEST(ReleasedClipTest, TheActivationIsThatOfTheNamesUnlessItIsGiven) {
  ReleasedClipOptions options = kOptions;
  const auto activation_of = [&](const char* file) {
    return read_released_clip(kClipFolder / file, options).model->config().activation;
  };
  options.activation = std::nullopt;
  EXPECT_EQ(activation_of("model.safetensors"), Activation::kQuickGelu);
  EXPECT_EQ(activation_of("open_clip.bin"), Activation::kGelu);
  options.activation = Activation::kGelu;
  EXPECT_EQ(activation_of("model.safetensors"), Activation::kGelu);
}

TEST(ReleasedClipTest, HeadsHave64ChannelsUnlessTheirNumberIsGiven) {
  ReleasedClipOptions options = kOptions;
  options.image_heads = std::nullopt;
  const auto error = [&] {
    return error_of([&] { read_released_clip(kClipFolder / "open_clip.bin", options); });
  };
  EXPECT_THAT(error(), HasSubstr("the image transformer has the width 32, expected a multiple of "
                                 "64, unless a config says"));
  options.image_heads = 5;
  EXPECT_THAT(error(), HasSubstr("the width 32, expected a multiple of its 5 heads"));
}

/// The error of a file whose tensors have been changed.
std::string error_after(const std::string& file, const std::function<void(NamedTensors&)>& change) {
  const TemporaryDirectory folder;
  NamedTensors tensors = read_foreign_tensors(kClipFolder / file).tensors;
  change(tensors);
  write_safetensors(folder / "changed.safetensors", tensors);
  return error_of([&] { read_released_clip(folder / "changed.safetensors", kOptions); });
}

at::Tensor& tensor_of(NamedTensors& tensors, const std::string& name) {
  for (auto& [own, tensor] : tensors)
    if (own == name) return tensor;
  throw std::out_of_range(name);
}

TEST(ReleasedClipTest, EveryTensorIsNeededAndNamedIfItIsNotThere) {
  for (const auto& [file, position] : kFiles) {
    const NamedTensors tensors = read_foreign_tensors(kClipFolder / file).tensors;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::string error = error_after(
          file, [&](NamedTensors& list) { list.erase(list.begin() + static_cast<int64_t>(i)); });
      // Without the patches, both schemes' are named; without logit_scale too, of course.
      EXPECT_THAT(error, AllOf(HasSubstr("changed.safetensors: "), HasSubstr(tensors[i].first),
                               HasSubstr("expected")));
    }
  }
}

TEST(ReleasedClipTest, NamesTensorsOfTheWrongShapeOrType) {
  for (const auto& [file, position] : kFiles) {
    const auto error_with = [file = file](const std::string& name, const at::Tensor& tensor) {
      return error_after(file, [&](NamedTensors& list) { tensor_of(list, name) = tensor; });
    };
    EXPECT_THAT(error_with("logit_scale", torch::zeros({1})),
                HasSubstr("logit_scale: found Float [1], expected floating point []"));
    EXPECT_THAT(error_with("logit_scale", torch::zeros({}, at::kLong)),
                HasSubstr("logit_scale: found Long [], expected floating point []"));
    EXPECT_THAT(error_with(position, torch::zeros({18, 32})),
                HasSubstr(std::string(position) + ": found 18 positions, expected a square"));
    EXPECT_THAT(error_with(position, torch::zeros({0, 32})), HasSubstr("none of them 0"));
    EXPECT_THAT(error_with(position, torch::zeros({5, 32, 1})), HasSubstr("expected 2 dimensions"));
    // One megabyte says that the model is large, and nothing else does.
    EXPECT_THAT(error_with(position, torch::zeros({250'001, 1}, at::kByte)),
                HasSubstr("expected floating point [250001, 32]"));
  }
  EXPECT_THAT(
      error_after(
          "model.safetensors",
          [](NamedTensors& list) {
            tensor_of(list, "text_model.encoder.layers.1.mlp.fc1.weight") = torch::zeros({64, 15});
          }),
      HasSubstr("text_model.encoder.layers.1.mlp.fc1.weight: found Float [64, 15], "
                "expected floating point [64, 16]"));
}

TEST(ReleasedClipTest, NamesTensorsThatDoNotBelongToIt) {
  for (const auto& [file, position] : kFiles) {
    const auto error_with = [file = file](const std::string& name) {
      return error_after(file,
                         [&](NamedTensors& list) { list.emplace_back(name, torch::zeros({2})); });
    };
    EXPECT_THAT(error_with("logit_bias"),
                HasSubstr("logit_bias: found Float [2], expected no tensor of this name"));
  }
  const auto with_positions = [](NamedTensors& list) {
    list.emplace_back("text_model.embeddings.position_ids", torch::arange(77).unsqueeze(0));
  };
  EXPECT_EQ(error_after("model.safetensors", with_positions), "no error");
  EXPECT_THAT(error_after("model.safetensors", [](NamedTensors& list) { list.clear(); }),
              HasSubstr("found neither vision_model.embeddings.patch_embedding.weight nor "
                        "visual.conv1.weight"));
}

TEST(ReleasedClipTest, NeedsTheVocabularyOfItsTokenizer) {
  ReleasedClipOptions options = kOptions;
  options.text_vocab_size = 647;
  EXPECT_THAT(
      error_of([&] { read_released_clip(kClipFolder / "model.safetensors", options); }),
      HasSubstr("text_model.embeddings.token_embedding.weight: found Half [650, 16], expected "
                "floating point [649, 16]"));
}

TEST(ReleasedClipTest, RefusesTruncatedFiles) {
  const TemporaryDirectory folder;
  for (const auto& [file, position] : kFiles) {
    const std::string bytes = read_file(kClipFolder / file);
    for (const size_t size : {size_t{0}, size_t{7}, bytes.size() / 2, bytes.size() - 1}) {
      write_file_atomically(folder / file, bytes.substr(0, size));
      EXPECT_THAT(error_of([&] { read_released_clip(folder / file, kOptions); }), HasSubstr(file))
          << size;
    }
  }
}

}  // namespace
}  // namespace dalle
