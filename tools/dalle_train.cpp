// dalle-train: trains an experiment from its YAML, stage by stage; the same command again resumes
// it.

#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "dalle/core/build_info.h"
#include "dalle/core/config_io.h"
#include "dalle/core/error.h"
#include "dalle/core/log.h"
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
  app.add_option("--stage", arguments.stage, "run one stage only: tokenizer, dvae or dalle");
  app.add_option("--run-dir", arguments.run_folder, "run folder; default runs/<name>");
  add_device_option(app, arguments.device);
  app.add_flag("--restart", arguments.restart, "move the old run folder aside and start over");
  app.add_flag("--allow-config-change", arguments.allow_config_change,
               "resume although the config differs from the one the run began with");
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
  throw Error("--stage {}: expected tokenizer, dvae or dalle", name);
}

std::string build_line() {
  const BuildInfo build = build_info();
  return fmt::format("dalle {} ({}), LibTorch {}{}", build.version,
                     build.git_revision.substr(0, 12), build.libtorch,
                     build.cuda.empty() ? "" : fmt::format(", CUDA {}", build.cuda));
}

int train(const Arguments& arguments) {
  if (arguments.describe) return std::cout << describe_config<ExperimentConfig>(), 0;
  if (arguments.json_schema)
    return std::cout << config_json_schema<ExperimentConfig>("dalle experiment"), 0;
  if (arguments.config.empty()) {
    log_error("--config is required (--help lists the options)");
    return kExitUsage;
  }
  const ExperimentConfig config = load_experiment(arguments.config, arguments.overrides);
  if (arguments.print_config) return std::cout << dump_config(config), 0;
  if (arguments.dry_run) return std::cout << cost_report(config), 0;

  const ExperimentOptions options{.device = find_device(arguments.device),
                                  .only = find_stage(arguments.stage),
                                  .allow_config_change = arguments.allow_config_change};
  const std::filesystem::path path = arguments.run_folder.empty()
                                         ? std::filesystem::path("runs") / config.name
                                         : std::filesystem::path(arguments.run_folder);
  if (arguments.restart) move_run_aside(path);
  const RunFolder run(path);
  open_log_file(run.log());
  record_versions(run.versions());
  log_info("{}: {} on {}", path.string(), build_line(), options.device.str());

  const StopSignal stop;
  if (run_experiment(config, run, options, stop) == TrainOutcome::kFinished) {
    log_info("finished: {}", path.string());
    return 0;
  }
  log_info("stopped and saved; the same command goes on from here");
  return 128 + stop.number();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains DALL-E from pictures and captions: tokenizer, dVAE, transformer.",
               "dalle-train");
  Arguments arguments;
  add_options(app, arguments);
  return dalle::run_tool(app, argc, argv, [&] { return train(arguments); });
}
