#include "train/learning_rate.h"

#include <cmath>

namespace dalle {

double scheduled_learning_rate(const TrainConfig& config, int64_t step) {
  if (step < config.warmup_steps)
    return config.learning_rate * static_cast<double>(step + 1) /
           static_cast<double>(config.warmup_steps);
  return config.learning_rate * config.decay.at(step - config.warmup_steps);
}

bool ReduceOnPlateau::observe(double loss) {
  if (config_.patience == 0) return false;
  const double needed = state_.best_loss - config_.threshold * std::abs(state_.best_loss);
  if (!std::isfinite(state_.best_loss) || loss < needed) {
    state_.best_loss = loss;
    state_.bad_evals = 0;
    return false;
  }
  if (++state_.bad_evals < config_.patience || state_.reductions == config_.max_reductions)
    return false;
  ++state_.reductions;
  state_.bad_evals = 0;
  return true;
}

double ReduceOnPlateau::factor() const {
  return std::pow(config_.factor, static_cast<double>(state_.reductions));
}

}  // namespace dalle
