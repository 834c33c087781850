#pragma once

#include <cstdint>
#include <limits>

#include "dalle/train/train_config.h"

namespace dalle {

/// The learning rate of update `step` (0-based) before any cut: a linear warm-up to the peak, then
/// the decay.
double scheduled_learning_rate(const TrainConfig& config, int64_t step);

/// Cuts the learning rate when the training loss stops falling.
/// Source: Ramesh et al. 2021, appendix B.2
class PlateauCuts {
 public:
  /// All that a checkpoint needs to go on from here.
  struct State {
    double best_loss = std::numeric_limits<double>::infinity();
    int64_t stale = 0;  ///< observations since the best one
    int64_t cuts = 0;
  };

  explicit PlateauCuts(const PlateauConfig& config) : config_(config) {}
  PlateauCuts(const PlateauConfig& config, const State& state) : config_(config), state_(state) {}

  /// @param loss  mean training loss since the last call
  /// @return      true if this observation led to a cut
  bool observe(double loss);

  /// What the scheduled learning rate is multiplied by: factor^cuts.
  double factor() const;

  const State& state() const { return state_; }

 private:
  PlateauConfig config_;
  State state_;
};

}  // namespace dalle
