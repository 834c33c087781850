#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "experiment/config/experiment_config.h"
#include "experiment/trained/trained_dalle.h"
#include "model/discrete_vae.h"
#include "sample/sampling_config.h"

namespace dalle {

/// A model to evaluate: a dVAE, and the transformer if it has been trained.
struct EvaluatedModel {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< of the checkpoint's manifest
  int64_t step = 0;
  ExperimentConfig config;
  DiscreteVae vae;
  std::optional<TrainedDalle> dalle;
};

/// Reads a model as load_trained_dalle() does or, if there is a dVAE but no checkpoint of the dalle
/// stage, its newest valid checkpoint. It computes in float32, whatever it was trained with, so
/// that numbers are comparable between devices.
///
/// @param path  as for load_trained_dalle(), or for dvae_checkpoints()
/// @throws dalle::Error as load_trained_dalle() does
EvaluatedModel load_evaluated_model(const std::filesystem::path& path, c10::Device device);

/// The config of the model that load_evaluated_model() would read, without reading its weights.
/// @throws dalle::Error as it does
ExperimentConfig config_of_evaluated_model(const std::filesystem::path& path);

/// Replaces the settings with which images are generated, which are the config's at first.
void set_sampling(EvaluatedModel& model, const SamplingConfig& sampling);

/// The run folder that a model belongs to: RUN, absolute, for RUN/checkpoints,
/// RUN/checkpoints/STAGE and RUN/checkpoints/STAGE/CHECKPOINT. Returns other paths unchanged.
std::filesystem::path run_of_model(const std::filesystem::path& path);

}  // namespace dalle
