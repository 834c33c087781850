// Writes a run whose checkpoint has random weights, and what the model computes for some input.
//
//   hub_example small|deep|wide|vq|vq-unit-norm|fsq RUN EXAMPLE.safetensors

#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "data/text/tokenizer.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "shapes_experiment.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

/// Together, the variants have all attention masks and bottlenecks, and both values of each switch.
ExperimentConfig config_of_variant(const std::string& variant) {
  ExperimentConfig config = shapes_experiment();
  config.name = variant;
  config.dvae.model = {.groups = 3, .blocks_per_group = 1, .hidden = 8, .vocab_size = 24};
  TransformerConfig& model = config.dalle.model;
  model.depth = 2;
  if (variant == "deep") {
    config.dvae.model = {.groups = 4,
                         .blocks_per_group = 2,
                         .hidden = 4,
                         .vocab_size = 16,
                         .codebook_width = 8,
                         .post_gain = 0.5,
                         .log_scale_floor = -1.0};
    model.depth = 6;
    model.attention = {AttentionKind::kRow, AttentionKind::kColumn, AttentionKind::kDense};
    model.conv_kernel = 5;
    model.activation = Activation::kQuickGelu;
    model.text_loss_includes_padding = true;
  } else if (variant == "wide") {
    model.width = 160;
    model.heads = 5;
    model.attention = {AttentionKind::kColumn};
    model.last_attention = AttentionKind::kDense;
  } else if (variant == "vq" || variant == "vq-unit-norm") {
    config.dvae.model.bottleneck = BottleneckKind::kVq;
    config.dvae.model.vq.unit_norm = variant == "vq-unit-norm";
  } else if (variant == "fsq") {
    config.dvae.model.bottleneck = BottleneckKind::kFsq;
    config.dvae.model.fsq_levels = {3, 2, 4};
  } else if (variant != "small") {
    throw Error("variant {:?}: expected small, deep, wide, vq, vq-unit-norm or fsq", variant);
  }
  return config;
}

/// Weights at which no term of the model is lost in the rounding.
void randomize(torch::nn::Module& module, const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    at::Tensor& weights = item.value();
    const bool is_matrix = weights.dim() > 1;
    const double scale = is_matrix ? 1.2 / std::sqrt(static_cast<double>(weights[0].numel())) : 0.3;
    weights.normal_(item.key().ends_with("gain") ? 1.0 : 0.0, scale, generator);
  }
}

Tokenizer example_tokenizer() {
  int count = 0;
  return Tokenizer(train_tokenizer(
      [&]() -> std::optional<std::string> {
        return count++ < 20 ? std::optional<std::string>("a small red circle and a blue square")
                            : std::nullopt;
      },
      {.vocab_size = 300}));
}

void write_example(const std::string& variant, const std::filesystem::path& run,
                   const std::filesystem::path& example) {
  const torch::NoGradGuard no_grad;
  const ExperimentConfig config = config_of_variant(variant);
  const Tokenizer tokenizer = example_tokenizer();
  const auto generator = at::detail::createCPUGenerator(/*seed_val=*/5);
  DiscreteVae vae(config.dvae.model, Precision::kFloat32);
  DalleModel model(config.dalle.model, config.layout(), tokenizer.vocab_size(),
                   config.dvae.model.vocab_size, Precision::kFloat32);
  randomize(*vae, generator);
  randomize(*model, generator);
  model->eval();
  CheckpointStore(RunPaths(run).checkpoints("dalle"), /*keep_last=*/1)
      .save({.step = 7,
             .tensors = {{kEmaTensors, weights_of(*model)}, {kDvaeTensors, weights_of(*vae)}},
             .files = {{kConfigFile, dump_config(config)}, {kTokenizerFile, tokenizer.model()}}});

  constexpr int64_t kSamples = 3;
  const SequenceLayout layout = config.layout();
  const auto random = [&](int64_t below, at::IntArrayRef sizes) {
    return torch::randint(below, sizes, generator, at::kLong);
  };
  const auto captions = random(tokenizer.vocab_size(), {kSamples, layout.max_caption_tokens()});
  captions[0].slice(0, 4).fill_(kPadToken);
  captions[1].fill_(kPadToken);
  const auto codes = random(config.dvae.model.vocab_size, {kSamples, layout.image_length()});
  const auto images =
      torch::rand({kSamples, 3, config.data.image_size, config.data.image_size}, generator);
  const auto states = model->hidden_states(captions, codes);  // [B, length, D]
  const auto parameters = model->named_parameters();
  const auto text = states.slice(1, 0, layout.text_length);
  const auto image = states.slice(1, layout.text_length);
  const auto grid = codes.view({kSamples, layout.grid_height, layout.grid_width});
  write_safetensors(example, {{"captions", captions},
                              {"codes", codes},
                              {"images", images},
                              {"text_logits", at::linear(text, parameters["text_head.weight"])},
                              {"image_logits", at::linear(image, parameters["image_head.weight"])},
                              {"latents", vae->logits(images)},
                              {"image_codes", vae->encode(images)},
                              {"decoded", vae->decode(grid)}});
}

}  // namespace
}  // namespace dalle

int main(int count, char** arguments) {
  if (count != 4) return 2;
  try {
    dalle::write_example(arguments[1], arguments[2], arguments[3]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
