#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <torch/nn/module.h>

#include "experiment/config/cost_estimate.h"
#include "experiment/config/experiment_config.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "tensor/precision.h"

namespace dalle {

/// Small models, a contrastive one among them, that still use every feature, so that comparisons
/// with a CPU take little time.
ExperimentConfig small_experiment(Precision precision = Precision::kFloat32);

/// The models of an experiment, with weights that do not depend on the device.
DiscreteVae make_dvae(const ExperimentConfig& config, c10::Device device);
DalleModel make_transformer(const ExperimentConfig& config, c10::Device device);

/// Adds noise to all parameters. In a newly initialized model biases are zero, all codes are equal
/// and attention is uniform, which would hide many errors.
void perturb_weights(torch::nn::Module& module);

/// A batch of random captions of all lengths and random codes.
struct RandomSequences {
  at::Tensor captions;  ///< [B, text_length - 1] int64, padded with kPadToken
  at::Tensor codes;     ///< [B, image_length] int64
};
RandomSequences random_sequences(const ExperimentConfig& config, int64_t batch, c10::Device device);

/// A model on a device with a fixed micro-batch of random data that is the same for all devices.
struct Subject {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor()> loss;  ///< [] of the micro-batch, computed as in training
  Optimizer::UsesMuon uses_muon;
  TrainConfig train;
  MemoryEstimate memory;
};

using MakeSubject = Subject (*)(const ExperimentConfig& config, c10::Device device);
Subject dvae_subject(const ExperimentConfig& config, c10::Device device);
Subject transformer_subject(const ExperimentConfig& config, c10::Device device);
/// The config must have a `clip` section.
Subject clip_subject(const ExperimentConfig& config, c10::Device device);

/// Trains a subject on its micro-batch.
class SubjectTraining {
 public:
  explicit SubjectTraining(Subject subject);

  /// Updates the weights once. Returns the loss before the update, with the device idle.
  double step();

  const FlatParameters& parameters() const { return parameters_; }

 private:
  Subject subject_;
  FlatParameters parameters_;
  Optimizer optimizer_;
};

}  // namespace dalle
