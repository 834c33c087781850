#pragma once

#include <cstdint>
#include <optional>

#include "core/stop_signal.h"
#include "data/image/rgb_image.h"
#include "dist/process_group.h"
#include "train/evaluation.h"
#include "train/train_task.h"
#include "train/training_state.h"

namespace dalle {

/// Evaluates a task with the EMA weights. A collective: the ranks divide the batches and get the
/// same result. It is bitwise independent of the number of ranks if all use the same number of
/// threads, as with distributed.bitwise; otherwise it agrees within rounding.
/// @param step  updates made so far
/// @return      nothing if there are no usable samples
/// @throws StopRequested  on all ranks if one noticed a stop: the evaluation must be redone
std::optional<Evaluation> evaluate_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                                       const CheckStop& check_stop, int64_t step);

/// Generates the task's sample images with the EMA weights. A collective: the ranks divide the
/// groups of images, and rank 0 arranges them in a grid, whose rows have the length of the first
/// group. If one of them runs out of memory, rank 0 logs a warning and there is no grid.
/// @return      the grid on rank 0; nothing on the others, or if there are no images
/// @throws StopRequested  on all ranks if one noticed a stop: the images must be generated again
std::optional<RgbImage> sample_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                                   const CheckStop& check_stop, int64_t step);

}  // namespace dalle
