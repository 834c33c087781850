#include "experiment/run_training.h"

#include <memory>

#include <fmt/format.h>

#include "core/build_info.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "dist/process_group.h"
#include "dist/stop_condition.h"
#include "experiment/stages/initial_weights.h"
#include "experiment/versions.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

std::shared_ptr<const RunPaths> open_run(const std::filesystem::path& folder, FolderUse use,
                                         ProcessGroup& group) {
  std::shared_ptr<const RunPaths> run;
  if (group.is_rank_zero()) {
    if (use == FolderUse::kRestart)
      if (const auto moved = move_run_aside(folder))
        log_info("moved the old run to {}", moved->string());
    run = std::make_shared<RunFolder>(folder);
  } else {
    run = std::make_shared<RunPaths>(folder, group.rank());
    set_console_rank(group.rank());
  }
  group.barrier();
  open_log_file(run->log());
  if (group.is_rank_zero()) record_versions(run->versions());
  return run;
}

/// A run that begins with another one's weights must not write into that run, or move it aside.
void check_leaves_source_alone(const ExperimentConfig& config,
                               const std::filesystem::path& folder) {
  const auto run = std::filesystem::weakly_canonical(folder);
  for (const std::string& source : {config.from.checkpoint, config.from.clip_checkpoint}) {
    if (source.empty()) continue;
    const auto inside = std::filesystem::weakly_canonical(source).lexically_relative(run);
    if (!inside.empty() && *inside.begin() != "..")
      throw Error(
          "{}: contains the source checkpoint {}; choose another name for the new run, or another "
          "--run-dir",
          folder.string(), source);
  }
}

}  // namespace

std::filesystem::path run_folder_of(const ExperimentConfig& config,
                                    const std::filesystem::path& given) {
  return given.empty() ? std::filesystem::path("runs") / config.name : given;
}

TrainingEnd run_training(const ExperimentConfig& config, const std::filesystem::path& folder,
                         FolderUse use, const ExperimentOptions& options) {
  if (options.only == Stage::kClip && !config.clip)
    throw Error("stage clip: the config has no clip section; add one to train it");
  check_leaves_source_alone(config, folder);
  if (use == FolderUse::kRestart) check_weight_sources(config, RunPaths(folder));
  const std::shared_ptr<const RunPaths> run = open_run(folder, use, *options.group);
  const StopSignal stop;
  const int64_t ranks = options.group->world_size();
  log_info("{}: {} on {}{}", folder.string(), build_line(), options.device.str(),
           ranks == 1 ? "" : fmt::format(", {} ranks", ranks));
  if (run_experiment(config, *run, options, stop) == TrainOutcome::kFinished) {
    log_info("finished: {}", folder.string());
    return {};
  }
  return {.outcome = TrainOutcome::kStopped,
          .signal = StopCondition(stop, *options.group).signal()};
}

}  // namespace dalle
