#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "dist/process_group.h"
#include "model/bottleneck.h"
#include "model/bottleneck_config.h"
#include "parallel/tree_sum.h"
#include "tensor/named_tensors.h"
#include "train/train_task.h"

namespace dalle {

/// How the codebook of `bottleneck: vq` changes besides its gradient: averages of the vectors that
/// the codes were assigned (`update: ema`), and new vectors for codes that are hardly used
/// (`revive_every`).
///
/// Each micro-batch is added; after the update of the weights, what all ranks have added changes
/// the codebook. It is the same on every rank, and a step that is skipped changes nothing. Which
/// vectors of the global batch replace codes is a function of the seed and the step, so neither the
/// ranks, the micro-batches nor interruptions matter.
class CodebookUpdates {
 public:
  /// @param codebook  [W, K, 1, 1] the parameter, which is changed in place
  CodebookUpdates(const VqConfig& config, const at::Tensor& codebook, uint64_t seed);

  /// @param passed    of the micro-batch's loss
  /// @param position  of the micro-batch's first sample, in the run
  void add(const BottleneckOutput& passed, int64_t position, const LossContext& context);

  /// Changes the codebook. A collective.
  /// @param bitwise  see DistributedConfig
  void apply(const LossContext& context, bool bitwise);

  /// What the next updates depend on, see TrainTask::state(); empty if nothing.
  NamedTensors state() const;

 private:
  bool is_averaged() const { return config_.update == CodebookUpdate::kEma; }
  bool revives() const { return config_.revive_every > 0; }
  bool revives_in(int64_t step) const {
    return revives() && (step + 1) % config_.revive_every == 0;
  }
  at::Tensor codes() const { return codebook_.detach().flatten(1).t(); }
  void add_candidates(const BottleneckOutput& passed, int64_t position, const LossContext& context);
  void revive();

  VqConfig config_;
  at::Tensor codebook_;
  uint64_t seed_;
  at::Tensor average_;     ///< [K, 1 + D] of code_sums(), per update
  at::Tensor usage_;       ///< [K] vectors assigned since the last revival
  int64_t step_ = -1;      ///< that the following belong to
  TreeSum sums_;           ///< code_sums() of its micro-batches
  at::Tensor candidates_;  ///< [n, D] distinct vectors of its global batch; other ranks' are 0
};

}  // namespace dalle
