#pragma once

#include <optional>
#include <string>
#include <utility>

#include <torch/types.h>

#include "experiment/shapes_experiment.h"
#include "experiment/stages/experiment_data.h"
#include "experiment/trained/trained_dalle.h"

namespace dalle {

/// Generates images of 32 x 32 pixels from 4 x 4 codes out of 16, with random weights whose
/// predictions are far from uniform. Equal in every call.
/// @param caption_dropout  0: the model cannot rank images
inline TrainedDalle small_trained_dalle(double caption_dropout = 0.1) {
  ExperimentConfig config = shapes_experiment();
  config.dvae.model = {
      .groups = 4, .blocks_per_group = 1, .hidden = 8, .vocab_size = 16, .codebook_width = 8};
  config.dalle.model.depth = 2;
  config.dalle.train.caption_dropout = caption_dropout;
  Tokenizer tokenizer(train_tokenizer(
      [n = 0]() mutable -> std::optional<std::string> {
        return n++ < 20 ? std::optional<std::string>("a small red circle on a white background")
                        : std::nullopt;
      },
      {.vocab_size = 300}));
  DiscreteVae vae(config.dvae.model, Precision::kFloat32);
  vae->initialize(initial_weights_generator(config, Stage::kDvae));
  DalleModel transformer(config.dalle.model, config.layout(), tokenizer.vocab_size(),
                         config.dvae.model.vocab_size, Precision::kFloat32);
  transformer->initialize(initial_weights_generator(config, Stage::kDalle));
  transformer->eval();
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : transformer->parameters())
    if (parameter.dim() == 2) parameter *= 15;
  return {.checkpoint = "no-such-folder/step-00000001",
          .hash = "abc",
          .step = 1,
          .config = config,
          .tokenizer = std::move(tokenizer),
          .vae = vae,
          .model = transformer};
}

}  // namespace dalle
