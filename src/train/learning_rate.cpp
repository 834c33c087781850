#include "train/learning_rate.h"

#include <cmath>

namespace dalle {

double scheduled_learning_rate(const TrainConfig& config, int64_t step) {
  if (step < config.warmup_steps)
    return config.learning_rate * static_cast<double>(step + 1) /
           static_cast<double>(config.warmup_steps);
  return config.learning_rate * config.decay.at(step - config.warmup_steps);
}

bool observe_loss(const PlateauConfig& config, PlateauState& state, double loss) {
  if (config.patience == 0) return false;
  const double needed = state.best_loss - config.threshold * std::abs(state.best_loss);
  if (!std::isfinite(state.best_loss) || loss < needed) {
    state.best_loss = loss;
    state.bad_evals = 0;
    return false;
  }
  if (++state.bad_evals < config.patience || state.reductions == config.max_reductions)
    return false;
  ++state.reductions;
  state.bad_evals = 0;
  return true;
}

double plateau_factor(const PlateauConfig& config, const PlateauState& state) {
  return std::pow(config.factor, static_cast<double>(state.reductions));
}

}  // namespace dalle
