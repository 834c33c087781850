// dalle-train: trains an experiment from its YAML, stage by stage. The same command resumes it.

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/log.h"
#include "core/strict_number.h"
#include "dist/process_group.h"
#include "dist/rank_info.h"
#include "experiment/config/cost_estimate.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config/stages.h"
#include "experiment/config/weight_source.h"
#include "experiment/experiment.h"
#include "experiment/rank_setup.h"
#include "experiment/run_training.h"
#include "start_ranks.h"
#include "train/run_folder.h"

namespace {

using namespace dalle;

constexpr const char* kMemoryAdvice =
    "lower micro_batch_size, set recompute: true, or see --dry-run";

struct Arguments {
  std::string config;
  std::string from;
  std::vector<std::string> overrides;
  std::optional<Stage> stage;
  std::string run_folder;
  std::string device = "auto";
  int64_t ranks = 1;
  bool restart = false;
  bool allow_config_change = false;
  bool print_config = false;
  bool describe = false;
  bool json_schema = false;
  bool dry_run = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--config", arguments.config,
                 "the experiment's YAML file; default with --from: the config of that model, with "
                 "-tuned at the end of its name");
  app.add_option("--from", arguments.from,
                 "fine-tune: a finished run or a checkpoint that initializes the weights of a new "
                 "run, with a new optimizer, from step 0. The tokenizer is kept; the dVAE too, "
                 "unless dvae.freeze is false. The same as --set from.checkpoint=PATH");
  app.add_option(
         "--set", arguments.overrides,
         "override a key, e.g. --set dalle.train.batch_size=8; text is taken literally, other "
         "values are parsed as YAML; repeatable")
      ->allow_extra_args(false);
  add_enum_option<Stage>(app, "--stage", arguments.stage,
                         "run one stage only: tokenizer, dvae, dalle or clip");
  app.add_option("--run-dir", arguments.run_folder, "run folder; default runs/<name>");
  add_device_option(app, arguments.device);
  app.add_option(
         "--ranks", arguments.ranks,
         "number of processes that train together on this machine: one per GPU or, for a small "
         "model on a CPU, one per core; for several machines use torchrun, srun or mpirun")
      ->transform(whole_number(1, 1024));
  app.add_flag("--restart", arguments.restart, "rename the old run folder and start over");
  app.add_flag("--allow-config-change", arguments.allow_config_change,
               "resume even if the config or the images differ from those the run started with");
  app.add_flag("--print-config", arguments.print_config, "print the resolved config and exit");
  app.add_flag("--describe", arguments.describe, "document every config key and exit");
  app.add_flag("--json-schema", arguments.json_schema,
               "print a JSON Schema of the config, for editors, and exit");
  app.add_flag("--dry-run", arguments.dry_run,
               "print parameters, FLOPs, memory, checkpoint size and the source of the initial "
               "weights, and exit");
}

/// Starts the ranks for --ranks, after checking that they can train together. Returns the exit
/// status.
int launch_ranks(const ExperimentConfig& config, const Arguments& arguments,
                 const std::filesystem::path& folder, const RankInfo& launched,
                 const std::optional<std::string>& piped, char** argv) {
  if (!may_start_ranks(arguments.ranks, launched)) return kExitUsage;
  // Checks here what otherwise every rank would find out and report.
  const std::optional<RunPaths> run =
      arguments.restart ? std::nullopt : std::optional(RunPaths(folder));
  check_ranks(config, run, arguments.stage, arguments.ranks);
  check_devices_of_ranks(arguments.ranks, arguments.device);
  return start_ranks(arguments.ranks, arguments.config, piped, argv);
}

/// Whether a cluster or torchrun has started this job before: such an attempt resumes what the
/// first one saved, also with --restart.
bool is_later_attempt() {
  for (const char* name : {"SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"})
    if (const char* count = std::getenv(name); count != nullptr && parse_number(count) > 0.0)
      return true;
  return false;
}

int train(const Arguments& arguments, char** argv) {
  if (arguments.describe) return std::cout << describe(config_schema<ExperimentConfig>()), 0;
  if (arguments.json_schema)
    return std::cout << json_schema(config_schema<ExperimentConfig>(), "dalle experiment"), 0;
  if (arguments.config.empty() && arguments.from.empty()) {
    log_error("--config or --from is required (--help lists the options)");
    return kExitUsage;
  }
  const bool trains = !arguments.print_config && !arguments.dry_run;
  const ConfigUse use = trains ? ConfigUse::kTrain : ConfigUse::kShow;
  const std::optional<std::string> piped = text_of_pipe(arguments.config);
  const ExperimentConfig config =
      load_training({.config = arguments.config, .text = piped, .from = arguments.from},
                    arguments.overrides, use);
  if (arguments.print_config) return std::cout << dump_config(config), 0;
  if (arguments.dry_run)
    return std::cout << source_report(config) << cost_report(config, arguments.ranks), 0;

  const std::filesystem::path folder = run_folder_of(config, arguments.run_folder);
  const RankInfo info = find_ranks(arguments.ranks);
  if (arguments.ranks > 1 && info.launcher != kLocalLauncher)
    return launch_ranks(config, arguments, folder, info, piped, argv);
  ExperimentOptions options = join_ranks(config, info, arguments.device);
  options.only = arguments.stage;
  options.allow_config_change = arguments.allow_config_change;
  return run_rank(*options.group, kMemoryAdvice, [&] {
    const bool restarts = arguments.restart && !is_later_attempt();
    const FolderUse folder_use = restarts ? FolderUse::kRestart : FolderUse::kResume;
    const TrainingEnd end = run_training(config, folder, folder_use, options);
    if (end.outcome == TrainOutcome::kFinished) return 0;
    log_info("stopped and saved; run the same command{} to resume",
             arguments.restart ? " without --restart" : "");
    return 128 + end.signal;
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains DALL-E from images and captions: tokenizer, dVAE, transformer, and "
      "optionally a contrastive model that ranks images.",
      "dalle-train");
  Arguments arguments;
  add_options(app, arguments);
  const dalle::ToolText text{
      .examples =
          "  dalle-train --config configs/shapes-demo.yaml\n"
          "  dalle-train --config configs/images-64.yaml --set data.path=my-images --dry-run\n"
          "  dalle-train --config configs/images-64.yaml --set data.path=my-images --ranks 4\n"
          "  dalle-train --from runs/images-64 --set name=birds --set data.path=my-birds\n",
      .memory_advice = kMemoryAdvice};
  dalle::run_tool(app, argc, argv, text, [&] { return train(arguments, argv); });
}
