#include "experiment/trained/hub_export.h"

#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "core/build_info.h"
#include "core/files.h"
#include "experiment/trained/model_card.h"
#include "nn/logit_laplace.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// LayerNorm uses at::layer_norm's default.
constexpr double kLayerNormEpsilon = 1e-5;

int64_t bytes_of_tensors(const NamedTensors& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

ordered_json transformer_config(const TrainedDalle& dalle) {
  const TransformerConfig& model = dalle.config.dalle.model;
  const SequenceLayout layout = dalle.config.layout();
  ordered_json attention = ordered_json::array();
  for (int64_t layer = 0; layer < model.depth; ++layer)
    attention.push_back(to_string(model.attention_of_layer(layer)));
  return {{"depth", model.depth},
          {"heads", model.heads},
          {"width", model.width},
          {"activation", to_string(model.activation)},
          {"layer_norm_epsilon", kLayerNormEpsilon},
          {"attention", std::move(attention)},
          {"conv_kernel", model.conv_kernel},
          {"text_length", layout.text_length},
          {"grid_height", layout.grid_height},
          {"grid_width", layout.grid_width},
          {"text_vocab_size", dalle.tokenizer.vocab_size()},
          {"image_vocab_size", dalle.config.dvae.model.vocab_size},
          {"text_loss_includes_padding", model.text_loss_includes_padding}};
}

ordered_json dvae_config(const TrainedDalle& dalle) {
  const DiscreteVaeConfig& model = dalle.config.dvae.model;
  ordered_json config{{"image_size", dalle.config.data.image_size},
                      {"groups", model.groups},
                      {"blocks_per_group", model.blocks_per_group},
                      {"hidden", model.hidden},
                      {"vocab_size", model.vocab_size},
                      {"codebook_width", model.codebook_width},
                      {"post_gain", model.residual_gain()},
                      {"pixel_margin", kPixelMargin},
                      {"bottleneck", to_string(model.bottleneck)}};
  if (model.bottleneck == BottleneckKind::kVq) config["unit_norm"] = model.vq.unit_norm;
  if (model.bottleneck == BottleneckKind::kFsq) config["fsq_levels"] = model.levels();
  config["log_scale_floor"] =
      model.log_scale_floor ? ordered_json(*model.log_scale_floor) : ordered_json(nullptr);
  return config;
}

ordered_json model_config(const TrainedDalle& dalle) {
  return {{"model_type", "dalle"},
          {"architectures", {"Dalle"}},
          {"dalle_version", build_info().version},
          {"torch_dtype", "float32"},
          {"step", dalle.step},
          {"source_manifest_sha256", dalle.hash},
          {"transformer", transformer_config(dalle)},
          {"dvae", dvae_config(dalle)}};
}

ordered_json generation_config(const ExperimentConfig& config) {
  const SampleStageConfig& sample = config.sample;
  return {{"do_sample", sample.temperature > 0},
          {"temperature", sample.temperature},
          {"top_k", sample.top_k},
          {"top_p", sample.top_p},
          {"guidance_scale", sample.guidance},
          {"guidance_from", sample.guidance_from},
          {"guidance_to", sample.guidance_to},
          {"max_new_tokens", config.layout().image_length()}};
}

ordered_json tokenizer_config(const TrainedDalle& dalle) {
  return {{"tokenizer_file", "tokenizer.model"},
          {"tokenizer_type", "sentencepiece_bpe"},
          {"vocab_size", dalle.tokenizer.vocab_size()},
          {"model_max_length", dalle.config.layout().max_caption_tokens()},
          {"padding_side", "right"},
          {"truncation_side", "right"},
          {"pad_token_id", kPadToken},
          {"add_bos_token", false},
          {"add_eos_token", false}};
}

ordered_json preprocessor_config(const DataConfig& data) {
  constexpr int kPillowBox = 4;  // the mean over the area of a pixel
  const ordered_json size{{"height", data.image_size}, {"width", data.image_size}};
  return {{"do_center_crop_to_square", true},
          {"do_resize", true},
          {"size", size},
          {"resample", kPillowBox},
          {"do_convert_rgb", true},
          {"background", data.background},
          {"do_rescale", true},
          {"rescale_factor", 1.0 / 255},
          {"value_range", {0, 1}},
          {"do_normalize", false}};
}

void write_json(const fs::path& path, const ordered_json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

/// One file, or several with an index.
void write_weights(const fs::path& folder, const NamedTensors& tensors, int64_t max_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  const std::vector<NamedTensors> shards = divide_into_shards(tensors, max_bytes);
  if (shards.size() == 1) {
    write_safetensors(folder / "model.safetensors", tensors, metadata);
    return;
  }
  ordered_json weight_map = ordered_json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(folder / file, shards[i], metadata);
    for (const auto& [name, tensor] : shards[i]) weight_map[name] = file;
  }
  write_json(folder / "model.safetensors.index.json",
             {{"metadata", {{"total_size", bytes_of_tensors(tensors)}}},
              {"weight_map", std::move(weight_map)}});
}

}  // namespace

std::vector<NamedTensors> divide_into_shards(const NamedTensors& tensors, int64_t max_bytes) {
  std::vector<NamedTensors> shards;
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto size = static_cast<int64_t>(tensor.nbytes());
    if (shards.empty() || bytes + size > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().emplace_back(name, tensor);
    bytes += size;
  }
  return shards;
}

void write_hub_files(const TrainedDalle& dalle, const RunPaths& run, const fs::path& folder,
                     int64_t max_shard_bytes) {
  NamedTensors tensors;
  for (auto& [name, tensor] : weights_of(*dalle.model))
    tensors.emplace_back("transformer." + name, tensor);
  for (auto& [name, tensor] : weights_of(*dalle.vae)) tensors.emplace_back("dvae." + name, tensor);
  write_weights(folder, tensors, max_shard_bytes);
  write_json(folder / "config.json", model_config(dalle));
  write_json(folder / "generation_config.json", generation_config(dalle.config));
  write_json(folder / "tokenizer_config.json", tokenizer_config(dalle));
  write_json(folder / "preprocessor_config.json", preprocessor_config(dalle.config.data));
  write_file_atomically(folder / "tokenizer.model", dalle.tokenizer.model());
  write_file_atomically(folder / "README.md", model_card(dalle, run));
}

}  // namespace dalle
