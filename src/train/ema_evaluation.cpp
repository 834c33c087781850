#include "train/ema_evaluation.h"

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/log.h"
#include "data/image/image_grid.h"
#include "tensor/torch_error.h"
#include "train/rank_shares.h"

namespace dalle {
namespace {

std::vector<std::string> run_on_ranks_of_ema(
    TrainingState& state, ProcessGroup& group, const CheckStop& check_stop,
    const std::function<std::string(const RankShare&)>& work) {
  const auto bound = state.bind_ema();
  const torch::NoGradGuard no_grad;
  return run_on_ranks(group, check_stop, work);
}

/// The first line of an exception that says that memory ran out; throws any other again.
std::string out_of_memory_line(const std::exception& error) {
  if (!is_out_of_memory(error)) throw;
  const std::string reason = error.what();  // a backtrace follows
  return reason.substr(0, reason.find('\n'));
}

/// A rank's sample images as bytes; none if there is too little memory for them.
std::string sample_share(TrainTask& task, int64_t step, const RankShare& share) {
  try {
    return to_bytes(ImagePart{.groups = task.sample_images(step, share), .out_of_memory = ""});
  } catch (const std::exception& error) {
    return to_bytes(ImagePart{.groups = {}, .out_of_memory = out_of_memory_line(error)});
  }
}

/// A grid of the sample images of all ranks; nothing if there are none.
std::optional<RgbImage> sample_grid(const ImageGroups& groups) {
  std::vector<RgbImage> images;
  for (const auto& [number, group_images] : groups)
    images.insert(images.end(), group_images.begin(), group_images.end());
  if (images.empty()) return std::nullopt;
  return image_grid(images, static_cast<int64_t>(groups.begin()->second.size()));
}

}  // namespace

std::optional<Evaluation> evaluate_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                                       const CheckStop& check_stop, int64_t step) {
  group.set_phase(Phase::kEvaluating, step);
  const auto parts = run_on_ranks_of_ema(state, group, check_stop, [&](const RankShare& share) {
    return to_bytes(task.evaluate(step, share));
  });
  const auto totals = add_up(parts);
  if (!totals) return std::nullopt;
  return task.summarize(step, *totals);
}

std::optional<RgbImage> sample_ema(TrainTask& task, TrainingState& state, ProcessGroup& group,
                                   const CheckStop& check_stop, int64_t step) {
  group.set_phase(Phase::kSampling, step);
  const auto parts = run_on_ranks_of_ema(state, group, check_stop, [&](const RankShare& share) {
    return sample_share(task, step, share);
  });
  if (!group.is_rank_zero()) return std::nullopt;
  std::string out_of_memory;
  try {
    const ImagePart all = join(parts);
    out_of_memory = all.out_of_memory;
    if (out_of_memory.empty()) return sample_grid(all.groups);
  } catch (const std::exception& error) {
    out_of_memory = out_of_memory_line(error);
  }
  log_warning(
      "{}: step {}: out of memory while generating sample images, which are skipped; training "
      "continues. Increase {} to try less often: {}",
      task.stage(), step, task.traits().sample_every_key, out_of_memory);
  return std::nullopt;
}

}  // namespace dalle
