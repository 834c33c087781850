#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <c10/core/Device.h>

#include "dalle/train/experiment_config.h"
#include "dalle/train/run_folder.h"
#include "dalle/train/stop_signal.h"
#include "dalle/train/trainer.h"

namespace dalle {

/// What an experiment consists of, in the order in which it is done.
enum class Stage { kTokenizer, kDvae, kDalle };

constexpr auto enum_names(Stage) {
  return std::array{std::pair{Stage::kTokenizer, std::string_view("tokenizer")},
                    std::pair{Stage::kDvae, std::string_view("dvae")},
                    std::pair{Stage::kDalle, std::string_view("dalle")}};
}

struct ExperimentOptions {
  std::shared_ptr<ProcessGroup> group = std::make_shared<ProcessGroup>();  ///< who trains together
  c10::Device device = c10::kCPU;
  std::optional<Stage> only;  ///< one stage instead of all of them
  /// Go on although the config or the data differ from those that the run began with.
  bool allow_config_change = false;
};

/// Throws if so many ranks cannot share the batches of a stage that is to be trained: one that is
/// finished in the run folder `run` is not; without a folder none is.
/// @throws dalle::Error naming the key to change
void check_ranks(const ExperimentConfig& config, const std::optional<RunPaths>& run,
                 std::optional<Stage> only, int64_t ranks);

/// Runs the stages of an experiment in order. A finished stage is skipped and an interrupted one
/// goes on, from what the run folder holds.
///
/// Several ranks call this together, on a run folder that all of them can read. The first one must
/// hold it (RunFolder).
///
/// @throws dalle::Error if the config differs from that of a stage already begun (the message lists
///         the keys), if the data set has other images than then, if the images lack captions for
///         a stage that needs them, if a stage lacks what an earlier one makes, or as
///         Trainer::run() does
TrainOutcome run_experiment(const ExperimentConfig& config, const RunPaths& run,
                            const ExperimentOptions& options, const StopSignal& stop);

}  // namespace dalle
