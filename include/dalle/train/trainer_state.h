#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "dalle/train/learning_rate.h"
#include "dalle/train/running_means.h"

namespace dalle {

/// The counters of a training run: all that a checkpoint holds beside weights, moments and average.
struct TrainerState {
  int64_t step = 0;     ///< batches consumed, those of skipped steps included
  int64_t updates = 0;  ///< updates of the weights; the optimizer's bias correction depends on it
  int64_t skipped_in_row = 0;  ///< steps left out since the last update
  PlateauCuts::State plateau;
  RunningMeans since_log;         ///< losses since the last line of the log
  RunningMeans since_evaluation;  ///< losses since the last evaluation

  std::optional<double> score;  ///< of these weights, once they are evaluated; lower is better
  double best_score = std::numeric_limits<double>::infinity();  ///< of all evaluations so far
  int64_t lines = 0;  ///< that the metrics hold of this step
  /// What this step still wants after its update: a stop leaves it to who goes on.
  bool evaluation_due = false;
  bool pictures_due = false;
  bool checkpoint_due = false;  ///< with the evaluation's score

  /// Whether a training of `steps` is done, reports and all.
  bool finished(int64_t steps) const { return step >= steps && !evaluation_due && !pictures_due; }

  int64_t skipped() const { return step - updates; }

  /// JSON; numbers are written so that reading gives the same bits.
  std::string to_json() const;

  /// @param source  where the text is from, for the message
  /// @throws dalle::Error if the text is no such state
  static TrainerState from_json(const std::string& text, const std::string& source);
};

}  // namespace dalle
