// dalle-train: trains an experiment from its YAML, stage by stage; the same command again resumes
// it.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/files.h"
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

constexpr const char* kMemoryAdvice =
    "lower micro_batch_size, set recompute: true, or see --dry-run";

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
  app.add_option(
         "--set", arguments.overrides,
         "override a key, e.g. --set dalle.train.batch_size=8; text is taken literally, other "
         "values are parsed as YAML; repeatable")
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
               "resume although the config or the images differ from those the run started with");
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
  if (gpus == 1 && info.launcher == "Slurm" && environment_variable("SLURM_GPUS_PER_TASK"))
    return device;
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

/// What `path` holds if it can be read only once, as a pipe can; nothing for a file.
std::optional<std::string> text_of_pipe(const std::string& path) {
  std::error_code ignored;  // reported by who reads the file
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (!exists(status) || is_regular_file(status) || is_directory(status)) return std::nullopt;
  return read_file(path);
}

/// Starts the ranks, for which a config that came through a pipe waits in a file in memory.
int start_ranks(const Arguments& arguments, const std::optional<std::string>& piped, char** argv) {
  if (!piped) return launch_local_ranks(arguments.ranks, argv);
  const int descriptor = ::memfd_create("config.yaml", 0);  // the ranks inherit it
  const std::string path = fmt::format("/proc/self/fd/{}", descriptor);
  std::ofstream file(path);
  if (descriptor < 0 || !(file << *piped << std::flush))
    throw Error("--config {}: {} ranks cannot share one pipe; use a file", arguments.config,
                arguments.ranks);
  std::vector<std::string> words;
  for (; *argv != nullptr; ++argv) {
    const bool is_value = !words.empty() && words.back() == "--config";
    words.emplace_back(is_value ? path : *argv);
    if (words.back() == "--config=" + arguments.config) words.back() = "--config=" + path;
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return launch_local_ranks(arguments.ranks, pointers.data());
}

/// Makes a GPU the one that this thread's calls mean if they name none: a context on the first GPU
/// from each rank would take its memory.
void make_current(c10::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
}

/// Opens the run's folder as the first rank, or follows it there.
std::shared_ptr<const RunPaths> open_run(const Arguments& arguments,
                                         const std::filesystem::path& path, ProcessGroup& group) {
  std::shared_ptr<const RunPaths> run;
  if (group.is_first()) {
    if (arguments.restart)
      if (const auto aside = move_run_aside(path))
        log_info("moved the old run to {}", aside->string());
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

/// Opens the run's folder and runs the experiment. Returns the exit status.
int run_as_rank(const ExperimentConfig& config, const Arguments& arguments,
                const std::filesystem::path& path, const ExperimentOptions& options) {
  const std::shared_ptr<const RunPaths> run = open_run(arguments, path, *options.group);
  const StopSignal stop;
  const int64_t ranks = options.group->world();
  log_info("{}: {} on {}{}", path.string(), build_line(), options.device.str(),
           ranks == 1 ? "" : fmt::format(", {} ranks", ranks));
  if (run_experiment(config, *run, options, stop) == TrainOutcome::kFinished) {
    log_info("finished: {}", path.string());
    return 0;
  }
  log_info("stopped and saved; run the same command to resume");
  return 128 + (stop.requested() ? stop.number() : SIGTERM);  // or another rank was asked
}

/// Whether a shell with job control, at which somebody types, has started this process.
bool is_started_at_a_terminal() {
  return ::isatty(STDIN_FILENO) != 0 && ::getpgrp() != ::getsid(0);
}

/// What the launcher says of this process. A shell that srun --pty has opened is a task of its
/// step, but what is typed there is not a rank among as many.
RankInfo find_ranks(int64_t ranks_here) {
  RankInfo info = rank_info();
  if (info.launcher != "Slurm" || info.alone() || !is_started_at_a_terminal()) return info;
  if (ranks_here == 1)
    log_warning(
        "this shell is task {} of {} of an interactive Slurm step; training on one rank. For one "
        "rank "
        "per task, start dalle-train with srun (inside a step: srun --overlap), or use --ranks",
        info.rank, info.world);
  return {};
}

/// --ranks: starts them, unless they cannot train together.
int launch_ranks(const ExperimentConfig& config, const Arguments& arguments,
                 const std::filesystem::path& path, const RankInfo& launched,
                 const std::optional<std::string>& piped, char** argv) {
  if (!launched.alone()) {
    if (launched.rank == 0)  // speaks for all: each of them has these arguments
      log_error(
          "--ranks {}: {} has already started {} ranks; omit --ranks, or have it start only one "
          "process",
          arguments.ranks, launched.launcher, launched.world);
    return kExitUsage;
  }
  // What all ranks would find out, and say, one by one.
  const std::optional<RunPaths> run =
      arguments.restart ? std::nullopt : std::optional(RunPaths(path));
  check_ranks(config, run, find_stage(arguments.stage), arguments.ranks);
  RankInfo any;
  any.local_world = arguments.ranks;
  device_of(any, arguments.device);
  return start_ranks(arguments, piped, argv);
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
  const ConfigUse use = trains ? ConfigUse::kTrain : ConfigUse::kShow;
  const std::optional<std::string> piped = text_of_pipe(arguments.config);
  const ExperimentConfig config =
      piped ? load_experiment_text(*piped, arguments.config, arguments.overrides, use)
            : load_experiment(arguments.config, arguments.overrides, use);
  if (arguments.print_config) return std::cout << dump_config(config), 0;
  if (arguments.dry_run) return std::cout << cost_report(config, arguments.ranks), 0;

  const std::filesystem::path path = arguments.run_folder.empty()
                                         ? std::filesystem::path("runs") / config.name
                                         : std::filesystem::path(arguments.run_folder);
  const RankInfo info = find_ranks(arguments.ranks);
  if (arguments.ranks > 1 && info.launcher != kLocalLauncher)
    return launch_ranks(config, arguments, path, info, piped, argv);
  share_the_processor(info, config.distributed.exact);
  const c10::Device device = device_of(info, arguments.device);
  make_current(device);
  if (config.distributed.exact && device.is_cuda()) demand_determinism();
  const ProcessGroupOptions group_options{
      .backend = config.distributed.backend,
      .timeout = std::chrono::seconds(config.distributed.timeout_s)};
  const ExperimentOptions options{
      .group = std::make_shared<ProcessGroup>(info, device, group_options),
      .device = device,
      .only = find_stage(arguments.stage),
      .allow_config_change = arguments.allow_config_change};
  try {
    return run_as_rank(config, arguments, path, options);
  } catch (const std::exception& error) {
    const std::string message = message_of(error, kMemoryAdvice);
    if (options.group->announce_failure(message)) throw;
    log_warning("{}", message);  // in this rank's log: another one tells the console
    return exit_status_of(error);
  }
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
      .memory_advice = kMemoryAdvice};
  return dalle::run_tool(app, argc, argv, text, [&] { return train(arguments, argv); });
}
