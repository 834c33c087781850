#include "model/released_clip.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/types.h>

#include "core/error.h"
#include "tensor/tensor_checks.h"
#include "tensor/torch_tensors.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kReleasedHeadWidth = 64;

/// What the tensors of a CLIP model are called. Layers are numbered from 0.
struct ClipNames {
  std::string_view patches, class_embedding, image_position, image_pre_norm, image_block,
      image_norm, image_projection, token_embedding, text_position, text_block, text_norm,
      text_projection;
  bool has_transposed_projections = false;
  // Names within a layer, before "weight" and "bias":
  std::string_view attention_norm, attention_output, mlp_norm, expand, contract;
  std::vector<std::string_view> query_key_value;  ///< one matrix or three
  std::vector<std::string_view> ignored;  ///< endings of the names of tensors that are not weights
};

ClipNames transformers_names() {
  return {.patches = "vision_model.embeddings.patch_embedding.weight",
          .class_embedding = "vision_model.embeddings.class_embedding",
          .image_position = "vision_model.embeddings.position_embedding.weight",
          .image_pre_norm = "vision_model.pre_layrnorm.",  // their spelling
          .image_block = "vision_model.encoder.layers.",
          .image_norm = "vision_model.post_layernorm.",
          .image_projection = "visual_projection.weight",
          .token_embedding = "text_model.embeddings.token_embedding.weight",
          .text_position = "text_model.embeddings.position_embedding.weight",
          .text_block = "text_model.encoder.layers.",
          .text_norm = "text_model.final_layer_norm.",
          .text_projection = "text_projection.weight",
          .has_transposed_projections = false,
          .attention_norm = "layer_norm1.",
          .attention_output = "self_attn.out_proj.",
          .mlp_norm = "layer_norm2.",
          .expand = "mlp.fc1.",
          .contract = "mlp.fc2.",
          .query_key_value = {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."},
          .ignored = {"position_ids"}};
}

ClipNames openai_names() {
  return {.patches = "visual.conv1.weight",
          .class_embedding = "visual.class_embedding",
          .image_position = "visual.positional_embedding",
          .image_pre_norm = "visual.ln_pre.",
          .image_block = "visual.transformer.resblocks.",
          .image_norm = "visual.ln_post.",
          .image_projection = "visual.proj",
          .token_embedding = "token_embedding.weight",
          .text_position = "positional_embedding",
          .text_block = "transformer.resblocks.",
          .text_norm = "ln_final.",
          .text_projection = "text_projection",
          .has_transposed_projections = true,
          .attention_norm = "ln_1.",
          .attention_output = "attn.out_proj.",
          .mlp_norm = "ln_2.",
          .expand = "mlp.c_fc.",
          .contract = "mlp.c_proj.",
          .query_key_value = {"attn.in_proj_"},
          .ignored = {"attn_mask", "input_resolution", "context_length", "vocab_size"}};
}

using TensorMap = std::map<std::string, at::Tensor>;

std::vector<int64_t> shape_of(const TensorMap& tensors, std::string_view name, int64_t dimensions) {
  const auto found = tensors.find(std::string(name));
  if (found == tensors.end())
    throw Error("found no tensor {}, expected one of {} dimensions", name, dimensions);
  const at::Tensor& tensor = found->second;
  if (tensor.dim() != dimensions || tensor.numel() == 0)
    throw Error("{}: found {}, expected {} dimensions, none of them 0", name,
                describe_tensor(tensor), dimensions);
  return tensor.sizes().vec();
}

int64_t count_layers(const TensorMap& tensors, std::string_view block) {
  for (int64_t layer = 0;; ++layer) {
    const std::string prefix = fmt::format("{}{}.", block, layer);
    const auto next = tensors.lower_bound(prefix);
    if (next != tensors.end() && next->first.starts_with(prefix)) continue;
    if (layer == 0) throw Error("found no tensor {}..., expected layers", prefix);
    return layer;
  }
}

int64_t heads_of(std::string_view what, int64_t width, std::optional<int64_t> given) {
  if (given ? *given < 1 || width % *given != 0 : width % kReleasedHeadWidth != 0)
    throw Error(
        "the {} transformer has the width {}, expected a multiple of {}", what, width,
        given ? fmt::format("its {} heads", *given)
              : fmt::format("{}, unless a config says how many heads it has", kReleasedHeadWidth));
  return given.value_or(width / kReleasedHeadWidth);
}

/// The square grid of patches, without the class token.
int64_t grid_of(std::string_view name, int64_t positions) {
  const auto side = std::llround(std::sqrt(static_cast<double>(positions - 1)));
  if (side < 1 || side * side != positions - 1)
    throw Error("{}: found {} positions, expected a square number and 1", name, positions);
  return side;
}

ClipConfig config_of(const TensorMap& tensors, const ClipNames& names,
                     const ReleasedClipOptions& options, Activation activation) {
  const auto patches = shape_of(tensors, names.patches, 4);  // [W, 3, P, P]
  const auto text = shape_of(tensors, names.text_position, 2);
  const auto projection = shape_of(tensors, names.image_projection, 2);
  if (text[0] < 3 || text[0] > 4096)
    throw Error("{}: found {} positions, expected 3 to 4096", names.text_position, text[0]);
  return {.patch_size = patches[2],
          .image_depth = count_layers(tensors, names.image_block),
          .image_heads = heads_of("image", patches[0], options.image_heads),
          .image_width = patches[0],
          .text_depth = count_layers(tensors, names.text_block),
          .text_heads = heads_of("text", text[1], options.text_heads),
          .text_width = text[1],
          .text_length = text[0],
          .embed_dim = projection[names.has_transposed_projections ? 1 : 0],
          .activation = activation};
}

/// Takes the tensors out of a file, and gives them their names and shapes in a ClipModel.
class ClipConversion {
 public:
  ClipConversion(TensorMap tensors, const ClipNames& names, const ClipConfig& config)
      : tensors_(std::move(tensors)), names_(names), config_(config) {}

  /// @param grid  patches along a side
  NamedTensors run(int64_t grid, int64_t text_vocab_size) {
    const int64_t image_width = config_.image_width, text_width = config_.text_width;
    const int64_t patch = config_.patch_size;
    add("patch_embedding.weight",
        take(names_.patches, {image_width, 3, patch, patch}).flatten(1));  // [W, 3 P P]
    add("class_embedding", take(names_.class_embedding, {image_width}));
    add("image_position", take(names_.image_position, {1 + grid * grid, image_width}));
    add_norm("image_pre_norm", names_.image_pre_norm, image_width);
    add_layers("image_block", names_.image_block, config_.image_depth, image_width);
    add_norm("image_norm", names_.image_norm, image_width);
    add_projection("image_projection.weight", names_.image_projection, image_width);
    add("token_embedding", take(names_.token_embedding, {text_vocab_size + 2, text_width}));
    add("text_position", take(names_.text_position, {config_.text_length, text_width}));
    add_layers("text_block", names_.text_block, config_.text_depth, text_width);
    add_norm("text_norm", names_.text_norm, text_width);
    add_projection("text_projection.weight", names_.text_projection, text_width);
    add("logit_scale", take("logit_scale", {}));
    check_rest();
    return std::move(converted_);
  }

 private:
  at::Tensor take(std::string_view name, at::IntArrayRef shape) {
    const auto found = tensors_.find(std::string(name));
    const bool fits = found != tensors_.end() && found->second.is_floating_point() &&
                      found->second.sizes() == shape;
    if (!fits)
      throw Error("{}: found {}, expected floating point [{}]", name,
                  describe_tensor(found == tensors_.end() ? at::Tensor() : found->second),
                  fmt::join(shape.begin(), shape.end(), ", "));
    at::Tensor tensor = found->second.to(at::kFloat);
    tensors_.erase(found);
    return tensor;
  }

  void add(std::string name, at::Tensor tensor) {
    converted_.emplace_back(std::move(name), tensor.contiguous());
  }

  void add_norm(const std::string& name, std::string_view theirs, int64_t width) {
    add(name + ".gain", take(fmt::format("{}weight", theirs), {width}));
    add(name + ".bias", take(fmt::format("{}bias", theirs), {width}));
  }

  void add_linear(const std::string& name, const std::string& theirs, int64_t out, int64_t in) {
    add(name + ".weight", take(theirs + "weight", {out, in}));
    add(name + ".bias", take(theirs + "bias", {out}));
  }

  void add_projection(const std::string& name, std::string_view theirs, int64_t width) {
    const int64_t out = config_.embed_dim;
    add(name, names_.has_transposed_projections ? take(theirs, {width, out}).t()
                                                : take(theirs, {out, width}));
  }

  void add_layers(const std::string& name, std::string_view theirs, int64_t depth, int64_t width) {
    for (int64_t layer = 0; layer < depth; ++layer) {
      const std::string ours = fmt::format("{}_{}.", name, layer + 1);
      const auto part = [&](std::string_view rest) {
        return fmt::format("{}{}.{}", theirs, layer, rest);
      };
      add_norm(ours + "attention_norm", part(names_.attention_norm), width);
      const auto parts = static_cast<int64_t>(names_.query_key_value.size());
      std::vector<at::Tensor> weights, biases;
      for (const std::string_view rest : names_.query_key_value) {
        weights.push_back(take(part(rest) + "weight", {3 * width / parts, width}));
        biases.push_back(take(part(rest) + "bias", {3 * width / parts}));
      }
      add(ours + "attention.query_key_value.weight", at::cat(weights));
      add(ours + "attention.query_key_value.bias", at::cat(biases));
      add_linear(ours + "attention.output", part(names_.attention_output), width, width);
      add_norm(ours + "mlp_norm", part(names_.mlp_norm), width);
      add_linear(ours + "expand", part(names_.expand), 4 * width, width);
      add_linear(ours + "contract", part(names_.contract), width, 4 * width);
    }
  }

  void check_rest() const {
    for (const auto& [name, tensor] : tensors_)
      if (std::ranges::none_of(
              names_.ignored, [&name = name](std::string_view end) { return name.ends_with(end); }))
        throw Error("{}: found {}, expected no tensor of this name", name, describe_tensor(tensor));
  }

  TensorMap tensors_;
  const ClipNames& names_;
  const ClipConfig& config_;
  NamedTensors converted_;
};

ReleasedClip convert(TensorMap tensors, const ReleasedClipOptions& options,
                     const std::string& source) {
  ClipNames names = transformers_names();
  const std::string_view patches = names.patches;
  const bool uses_transformers_names = tensors.contains(std::string(patches));
  if (!uses_transformers_names) names = openai_names();
  if (!tensors.contains(std::string(names.patches)))
    throw Error(
        "found neither {} nor {}, expected a CLIP model with a vision transformer and the tensor "
        "names of transformers, OpenAI's code or OpenCLIP",
        patches, names.patches);
  const Activation usual = uses_transformers_names ? Activation::kQuickGelu : Activation::kGelu;
  const ClipConfig config = config_of(tensors, names, options, options.activation.value_or(usual));
  const int64_t grid = grid_of(names.image_position, shape_of(tensors, names.image_position, 2)[0]);
  // Only a model that the file has all tensors of is made: sizes that they contradict could need
  // any amount of memory.
  const NamedTensors converted =
      ClipConversion(std::move(tensors), names, config).run(grid, options.text_vocab_size);
  ReleasedClip clip{.model = ClipModel(config, grid * config.patch_size, options.text_vocab_size),
                    .image_size = grid * config.patch_size};
  load_weights(*clip.model, converted, source);
  return clip;
}

}  // namespace

ReleasedClip read_released_clip(const fs::path& file, const ReleasedClipOptions& options) {
  NamedTensors tensors = read_foreign_tensors(file).tensors;
  try {
    return convert(TensorMap(tensors.begin(), tensors.end()), options, file.string());
  } catch (const Error& error) {
    throw Error("{}: {}", file.string(), error.what());
  }
}

}  // namespace dalle
