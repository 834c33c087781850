// dalle-train: trains an experiment from its YAML, stage by stage; the same command again resumes
// it.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/log.h"
#include "dalle/dist/local_launcher.h"
#include "dalle/dist/process_group.h"
#include "dalle/dist/rank_info.h"
#include "dalle/train/cost_estimate.h"
#include "dalle/train/experiment.h"
#include "dalle/train/experiment_config.h"
#include "dalle/train/run_folder.h"
#include "dalle/train/stop_signal.h"
#include "dalle/train/versions.h"

#include "command_line.h"

namespace {

using namespace dalle;

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string stage;
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
  app.add_option("--config", arguments.config, "the experiment's YAML file");
  app.add_option("--set", arguments.overrides,
                 "override a key, e.g. --set dalle.train.batch_size=8; repeatable")
      ->allow_extra_args(false);
  app.add_option("--stage", arguments.stage, "run one stage only: tokenizer, dvae or dalle")
      ->check(CLI::IsMember({"tokenizer", "dvae", "dalle"}));
  app.add_option("--run-dir", arguments.run_folder, "run folder; default runs/<name>");
  add_device_option(app, arguments.device);
  app.add_option(
         "--ranks", arguments.ranks,
         "processes that train together on this machine: one for each GPU, or for each core "
         "with a small model on a CPU; on several machines use torchrun, srun or mpirun")
      ->transform(whole_number(1, 1024));
  app.add_flag("--restart", arguments.restart, "move the old run folder aside and start over");
  app.add_flag("--allow-config-change", arguments.allow_config_change,
               "resume although the config or the pictures differ from those the run began with");
  app.add_flag("--print-config", arguments.print_config, "print the resolved config and exit");
  app.add_flag("--describe", arguments.describe, "document every key and exit");
  app.add_flag("--json-schema", arguments.json_schema,
               "print a JSON Schema of the YAML, for editors, and exit");
  app.add_flag("--dry-run", arguments.dry_run,
               "print parameters, FLOPs, memory and checkpoint size, and exit");
}

std::optional<Stage> find_stage(const std::string& name) {
  if (name.empty()) return std::nullopt;
  for (const auto& [stage, stage_name] : enum_names(Stage{}))
    if (stage_name == name) return stage;
  DALLE_CHECK(false);  // the command line lets no other name through
}

/// The device of this rank: "cuda" and "auto" give each rank of a machine a GPU of its own.
c10::Device device_of(const RankInfo& info, const std::string& name) {
  const c10::Device device = find_device(name);
  if (device.is_cpu() || info.local_world == 1) return device;
  if (name != "auto" && name != "cuda")
    throw Error("--device {}: {} ranks on this machine need one GPU each; give cuda", name,
                info.local_world);
  const auto gpus = static_cast<int64_t>(at::getNumGPUs());
  // srun --gpus-per-task=1 shows each rank its own GPU alone, as the first one.
  if (gpus == 1 && environment_variable("SLURM_GPUS_PER_TASK")) return device;
  if (info.local_world > gpus)
    throw Error("--device {}: {} ranks on this machine need one GPU each, found {}", name,
                info.local_world, gpus);
  return find_device(fmt::format("cuda:{}", info.local_rank));
}

/// Ranks of one machine share its cores, unless OMP_NUM_THREADS says otherwise. Exact training
/// computes with one thread: how work is shared between threads decides how sums are rounded.
void share_the_processor(const RankInfo& info, bool exact) {
  if (environment_variable("OMP_NUM_THREADS")) return;
  const int64_t threads = exact ? 1 : at::get_num_threads() / info.local_world;
  if (threads < at::get_num_threads())
    at::set_num_threads(static_cast<int>(std::max<int64_t>(1, threads)));
}

/// Makes a GPU's sums independent of which of its threads comes first.
void demand_determinism() {
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
}

/// Opens the run's folder as the first rank, or follows it there.
std::shared_ptr<const RunPaths> open_run(const Arguments& arguments,
                                         const std::filesystem::path& path, ProcessGroup& group) {
  std::shared_ptr<const RunPaths> run;
  if (group.is_first()) {
    if (arguments.restart) move_run_aside(path);
    run = std::make_shared<RunFolder>(path);
  } else {
    run = std::make_shared<RunPaths>(path, group.rank());
    speak_as_rank(group.rank());
  }
  group.barrier();
  open_log_file(run->log());
  if (group.is_first()) record_versions(run->versions());
  return run;
}

/// Runs the experiment; if this rank cannot go on, the others get to know why.
TrainOutcome run_as_rank(const ExperimentConfig& config, const RunPaths& run,
                         const ExperimentOptions& options, const StopSignal& stop) {
  try {
    return run_experiment(config, run, options, stop);
  } catch (const std::exception& error) {
    options.group->announce_failure(error.what());
    throw;
  }
}

int train(const Arguments& arguments, char** argv) {
  if (arguments.describe) return std::cout << describe_config<ExperimentConfig>(), 0;
  if (arguments.json_schema)
    return std::cout << config_json_schema<ExperimentConfig>("dalle experiment"), 0;
  if (arguments.config.empty()) {
    log_error("--config is required (--help lists the options)");
    return kExitUsage;
  }
  const bool trains = !arguments.print_config && !arguments.dry_run;
  const ExperimentConfig config = load_experiment(arguments.config, arguments.overrides,
                                                  trains ? ConfigUse::kTrain : ConfigUse::kShow);
  if (arguments.print_config) return std::cout << dump_config(config), 0;
  if (arguments.dry_run) return std::cout << cost_report(config, arguments.ranks), 0;

  const std::optional<Stage> only = find_stage(arguments.stage);
  const RankInfo info = rank_info();
  if (arguments.ranks > 1 && info.launcher == "none")
    return launch_local_ranks(arguments.ranks, argv);
  share_the_processor(info, config.distributed.exact);
  const c10::Device device = device_of(info, arguments.device);
  if (config.distributed.exact && device.is_cuda()) demand_determinism();
  const ProcessGroupOptions group_options{
      .backend = config.distributed.backend,
      .timeout = std::chrono::seconds(config.distributed.timeout_s)};
  const ExperimentOptions options{
      .group = std::make_shared<ProcessGroup>(info, device, group_options),
      .device = device,
      .only = only,
      .allow_config_change = arguments.allow_config_change};
  const std::filesystem::path path = arguments.run_folder.empty()
                                         ? std::filesystem::path("runs") / config.name
                                         : std::filesystem::path(arguments.run_folder);
  const std::shared_ptr<const RunPaths> run = open_run(arguments, path, *options.group);
  const StopSignal stop;
  log_info("{}: {} on {}{}", path.string(), build_line(), device.str(),
           info.alone() ? "" : fmt::format(", {} ranks", info.world));

  if (run_as_rank(config, *run, options, stop) == TrainOutcome::kFinished) {
    log_info("finished: {}", path.string());
    return 0;
  }
  log_info("stopped and saved; the same command goes on from here");
  return 128 + (stop.requested() ? stop.number() : SIGTERM);  // or another rank was asked
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains DALL-E from pictures and captions: tokenizer, dVAE, transformer.",
               "dalle-train");
  Arguments arguments;
  add_options(app, arguments);
  const dalle::ToolText text{
      .examples =
          "  dalle-train --config configs/shapes-demo.yaml\n"
          "  dalle-train --config configs/pictures-64.yaml --set data.path=my-images --dry-run\n"
          "  dalle-train --config configs/pictures-64.yaml --set data.path=my-images --ranks 4\n",
      .memory_advice = "lower micro_batch_size, set recompute: true, or see --dry-run"};
  return dalle::run_tool(app, argc, argv, text, [&] { return train(arguments, argv); });
}
