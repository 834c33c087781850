#pragma once

#include <cstdint>
#include <optional>

#include "dist/process_group.h"
#include "dist/stop_condition.h"
#include "train/evaluation.h"
#include "train/train_task.h"
#include "train/training_state.h"

namespace dalle {

struct EvaluationOutcome {
  bool is_stopped = false;               ///< a rank noticed a stop: the evaluation must be redone
  std::optional<Evaluation> evaluation;  ///< nothing if there are no usable samples
};

/// Evaluates a task with the EMA weights. A collective: the ranks divide the batches and get the
/// same result. It is bitwise independent of the number of ranks if all use the same number of
/// threads, as with distributed.bitwise; otherwise it agrees within rounding.
/// @param step  updates made so far
EvaluationOutcome evaluate_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                               const StopCondition& stop, int64_t step);

struct SampleOutcome {
  bool is_stopped = false;          ///< a rank noticed a stop: the images must be generated again
  std::optional<NamedImage> image;  ///< on rank 0 only
};

/// Generates the task's sample images with the EMA weights. A collective: the ranks divide the
/// groups of images, and rank 0 arranges them. If one of them runs out of memory, rank 0 logs a
/// warning and there is no image.
SampleOutcome sample_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                         const StopCondition& stop, int64_t step);

}  // namespace dalle
