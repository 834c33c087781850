#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "checkpoint/checkpoint.h"
#include "dist/distributed_config.h"
#include "dist/process_group.h"
#include "optim/flat_parameters.h"
#include "optim/optimizer.h"
#include "parallel/gradient_reducer.h"
#include "parallel/replica_check.h"
#include "tensor/flat_state.h"
#include "train/train_config.h"

namespace torch::nn {
class Module;
}

namespace dalle {

/// The tensors that training changes: weights, gradient, the optimizer's moments and the EMA, of
/// which each rank has all or, where ranks share the optimizer's work, a shard.
///
/// Gathering EMA and moments, and reading them from a checkpoint, needs no further memory of the
/// weights' size: it is done one at a time, in the memory of the gradient. What is gathered is
/// therefore valid until the next step.
class TrainingState {
 public:
  /// Parts of equal size that save_into() divides the tensors into.
  static constexpr int64_t kParts = 4;

  /// All arguments must outlive it.
  TrainingState(torch::nn::Module& module, const TrainConfig& config,
                const DistributedConfig& distributed, const Optimizer::UsesMuon& uses_muon,
                const Optimizer::Decays& decays, ProcessGroup& group);

  c10::Device device() const { return parameters_.gradients().device(); }

  /// Updates made so far.
  int64_t updates() const { return optimizer_.updates(); }

  /// Adds up the gradient of a step: see GradientReducer.
  GradientReducer& reducer() { return *reducer_; }

  /// Euclidean norm of the reduced gradient, the same bits on every rank.
  double gradient_norm() const { return reducer_->norm(); }

  /// The update of a step: clips the gradient, and changes weights, moments and, when that is due,
  /// the EMA. From time to time, it compares the ranks' weights first.
  /// @param gradient_norm  finite
  /// @param after_update   called when the module has its new weights, which it may change in the
  ///                       same way on every rank, before the EMA reads them
  /// @throws dalle::Error if the ranks' weights differ
  void update(double learning_rate, double gradient_norm,
              const std::function<void()>& after_update);

  /// Which of this rank's weights, or else gradients, is not finite, as a phrase; empty: none is.
  std::string non_finite_tensor() const;

  /// The parameter of this rank that has changed since the last update, which only a hardware fault
  /// can cause; empty: none has, or it is not checked.
  std::string changed_parameter() const;

  /// Ends the training on all ranks because such a change was found on one of them. A collective.
  /// @param changed  changed_parameter() of this rank
  /// @throws dalle::Error naming the rank and the parameter
  void throw_weight_corruption(const std::string& changed) const;

  /// Binds the EMA weights to the module for the length of a scope; afterwards the training weights
  /// come back bit for bit. A collective.
  [[nodiscard]] FlatParameters::BoundValues bind_ema();

  /// The tensors of a checkpoint that restore() reads.
  static std::set<std::string> tensor_names();

  /// Copies to the host, and into `content`, the parts of the state that this rank is to write. A
  /// collective.
  void save_into(CheckpointContent& content, const std::function<bool(int64_t part)>& is_own);

  /// Gives every rank the state of rank 0: that of its checkpoint, or the initial weights. A
  /// collective.
  /// @param checkpoint  what rank 0 resumes from, verified; nothing for a new run, and on the other
  ///                    ranks
  /// @param updates     made so far
  /// @return            whether rank 0 has a checkpoint
  bool restore(const std::optional<std::filesystem::path>& checkpoint, int64_t updates);

 private:
  at::Tensor gathered(const std::vector<FlatState*>& states);
  void load(const std::filesystem::path& checkpoint, const char* name, const at::Tensor& flat);
  bool checks_owned_weights() const;

  torch::nn::Module& module_;
  const TrainConfig& config_;
  DistributedConfig distributed_;
  ProcessGroup& group_;
  FlatParameters parameters_;
  std::unique_ptr<GradientReducer> reducer_;
  Optimizer optimizer_;
  /// The exponential moving average (EMA) of the weights, for evaluation and sampling.
  /// Source: Ramesh et al. 2021, appendices A.2 and B.2
  FlatState ema_;
  WeightChecksum checksum_;
};

}  // namespace dalle
