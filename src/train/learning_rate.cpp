#include "dalle/train/learning_rate.h"

#include <cmath>

namespace dalle {

double scheduled_learning_rate(const TrainConfig& config, int64_t step) {
  if (step < config.warmup_steps)
    return config.learning_rate * static_cast<double>(step + 1) /
           static_cast<double>(config.warmup_steps);
  return config.learning_rate * config.decay.at(step - config.warmup_steps);
}

bool PlateauCuts::observe(double loss) {
  if (config_.patience == 0) return false;
  const double needed = state_.best_loss - config_.threshold * std::abs(state_.best_loss);
  if (!std::isfinite(state_.best_loss) || loss < needed) {
    state_.best_loss = loss;
    state_.stale = 0;
    return false;
  }
  if (++state_.stale < config_.patience || state_.cuts == config_.max_cuts) return false;
  ++state_.cuts;
  state_.stale = 0;
  return true;
}

double PlateauCuts::factor() const {
  return std::pow(config_.factor, static_cast<double>(state_.cuts));
}

}  // namespace dalle
