#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "metrics/running_means.h"
#include "train/learning_rate.h"

namespace dalle {

/// The counters of a training run: what a checkpoint holds in addition to the weights, the
/// optimizer's moments and the EMA.
struct TrainingCounters {
  int64_t step = 0;     ///< batches consumed, including those of skipped steps
  int64_t updates = 0;  ///< updates of the weights; the optimizer's bias correction depends on it
  int64_t skipped_in_row = 0;  ///< steps skipped since the last update
  PlateauState plateau;
  RunningMeans since_log;         ///< losses since the last line of the log
  RunningMeans since_evaluation;  ///< losses since the last evaluation

  std::optional<double> score;  ///< of these weights, once they are evaluated; lower is better
  double best_score = std::numeric_limits<double>::infinity();  ///< of all evaluations so far
  int64_t lines_of_step = 0;                                    ///< in metrics.jsonl
  /// What is still to be done after this step's update; a stop leaves it to the resumed run.
  bool evaluation_due = false;
  bool samples_due = false;
  bool checkpoint_due = false;  ///< with the evaluation's score

  /// Whether a training of `steps` is finished, with its last evaluation and sample images.
  bool finished(int64_t steps) const { return step >= steps && !evaluation_due && !samples_due; }

  int64_t skipped() const { return step - updates; }

  /// JSON; numbers are read back bit for bit.
  std::string to_json() const;

  /// @param source  where the text is from, for the message
  /// @throws dalle::Error if the text has another format
  static TrainingCounters from_json(const std::string& text, const std::string& source);
};

}  // namespace dalle
