#pragma once

#include <cstdint>
#include <limits>

#include "train/train_config.h"

namespace dalle {

/// The learning rate of update `step` (0-based) before any reduction: a linear warm-up to the peak,
/// then the decay.
double scheduled_learning_rate(const TrainConfig& config, int64_t step);

/// Reduces the learning rate when the training loss stops falling.
/// Source: Ramesh et al. 2021, appendix B.2
class ReduceOnPlateau {
 public:
  /// All that a checkpoint needs to resume from here.
  struct State {
    double best_loss = std::numeric_limits<double>::infinity();
    int64_t bad_evals = 0;  ///< observations since the best one
    int64_t reductions = 0;
  };

  explicit ReduceOnPlateau(const PlateauConfig& config) : config_(config) {}
  ReduceOnPlateau(const PlateauConfig& config, const State& state)
      : config_(config), state_(state) {}

  /// @param loss  mean training loss since the last call
  /// @return      true if this observation led to a reduction
  bool observe(double loss);

  /// What the scheduled learning rate is multiplied by: factor^reductions.
  double factor() const;

  const State& state() const { return state_; }

 private:
  PlateauConfig config_;
  State state_;
};

}  // namespace dalle
