#pragma once

#include <cstdint>
#include <limits>

#include "train/train_config.h"

namespace dalle {

/// The learning rate of update `step` (0-based) before any reduction: a linear warm-up to the peak,
/// then the decay.
double scheduled_learning_rate(const TrainConfig& config, int64_t step);

/// What the reductions of the learning rate depend on: it is reduced when the training loss stops
/// falling. A checkpoint holds all of it.
/// Source: Ramesh et al. 2021, appendix B.2
struct PlateauState {
  double best_loss = std::numeric_limits<double>::infinity();
  int64_t bad_evals = 0;  ///< observations since the best one
  int64_t reductions = 0;
};

/// Updates the state with an observation.
/// @param loss  mean training loss since the last call
/// @return      true if this observation led to a reduction
bool observe_loss(const PlateauConfig& config, PlateauState& state, double loss);

/// What the scheduled learning rate is multiplied by: factor^reductions.
double plateau_factor(const PlateauConfig& config, const PlateauState& state);

}  // namespace dalle
