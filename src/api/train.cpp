#include "dalle/train.h"

#include <atomic>
#include <exception>

#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "dist/process_group.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config/stages.h"
#include "experiment/rank_setup.h"
#include "experiment/run_training.h"
#include "experiment/torch_setup.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

/// Held by the running call of train(), because signal handlers and the log file belong to the
/// process. Its destructor closes the run's log file.
class OnlyTraining {
 public:
  OnlyTraining() {
    if (is_running.exchange(true))
      throw Error("train: another call is already running; only one at a time is supported");
  }
  ~OnlyTraining() {
    close_log_file();
    is_running = false;
  }
  OnlyTraining(const OnlyTraining&) = delete;
  OnlyTraining& operator=(const OnlyTraining&) = delete;

 private:
  static inline std::atomic<bool> is_running = false;
};

}  // namespace

TrainResult train(const TrainRequest& request) {
  const OnlyTraining only;
  disable_malloc_trim();
  silence_torch_log();
  set_up_torch();
  const std::optional<Stage> stage = find_stage(request.stage);
  const ExperimentConfig config = load_training(
      {.config = request.config.string(), .from = request.from.string()}, request.overrides);
  const std::filesystem::path folder = run_folder_of(config, request.run_folder);
  ExperimentOptions options = join_ranks(config, find_ranks(1), request.device);
  options.only = stage;
  options.allow_config_change = request.allow_config_change;
  const FolderUse use = request.restart ? FolderUse::kRestart : FolderUse::kResume;
  try {
    return {.run_folder = folder, .signal = run_training(config, folder, use, options).signal};
  } catch (const std::exception& error) {
    // The other ranks only log it, so that one of them reports it.
    if (!options.group->announce_failure(error_text(error))) log_warning("{}", error_text(error));
    throw;
  }
}

}  // namespace dalle
