#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <torch/nn/module.h>

#include "dalle/model/dalle_model.h"
#include "dalle/model/discrete_vae.h"
#include "dalle/nn/precision.h"
#include "dalle/optim/flat_parameters.h"
#include "dalle/optim/optimizer.h"
#include "dalle/train/cost_estimate.h"
#include "dalle/train/experiment_config.h"

namespace dalle {

/// Small models in all their parts, for comparisons with a CPU that computes at its own pace.
ExperimentConfig small_experiment(Precision precision = Precision::kFloat32);

/// The models of an experiment, with weights that do not depend on the device.
DiscreteVae make_dvae(const ExperimentConfig& config, c10::Device device);
DalleModel make_transformer(const ExperimentConfig& config, c10::Device device);

/// Adds noise to all parameters: in a fresh model biases are zero, all codes are equal and
/// attention is even, so that much could go wrong unseen.
void leave_initial_weights(torch::nn::Module& module);

/// A batch of captions of all lengths and of codes, all random.
struct RandomSequences {
  at::Tensor captions;  ///< [B, text_length - 1] int64, kPadToken behind the last token
  at::Tensor codes;     ///< [B, image_length] int64
};
RandomSequences random_sequences(const ExperimentConfig& config, int64_t batch, c10::Device device);

/// A model on a device with a fixed micro-batch of random data, whatever the device.
struct Subject {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor()> loss;  ///< [] of the micro-batch, as training computes it
  Optimizer::IsHiddenMatrix is_hidden_matrix;
  TrainConfig train;
  int64_t batch = 0;          ///< samples in the micro-batch
  double training_flops = 0;  ///< of a sample
  MemoryEstimate memory;
};

using MakeSubject = Subject (*)(const ExperimentConfig& config, c10::Device device);
Subject dvae_subject(const ExperimentConfig& config, c10::Device device);
Subject transformer_subject(const ExperimentConfig& config, c10::Device device);

/// Trains a subject on its one micro-batch.
class SubjectTraining {
 public:
  explicit SubjectTraining(Subject subject);

  /// One update of the weights. Returns the loss before it; the device is idle then.
  double step();

  const Subject& subject() const { return subject_; }
  const FlatParameters& parameters() const { return parameters_; }

 private:
  Subject subject_;
  FlatParameters parameters_;
  Optimizer optimizer_;
};

}  // namespace dalle
