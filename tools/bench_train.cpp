#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/machine.h"
#include "core/shell_word.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config/stages.h"
#include "metrics/metric_log.h"
#include "staging_folder.h"
#include "train/run_folder.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  Stage stage = Stage::kDalle;
  std::vector<int64_t> ranks = {1, 2};
  int64_t steps = 40;
  std::string device = "auto";
  std::string json;
};

void add_options(CLI::App& app, TrainArguments& arguments) {
  app.add_option("--config", arguments.config, "the experiment's YAML file")->required();
  app.add_option("--set", arguments.overrides, "override a key; repeatable")
      ->allow_extra_args(false);
  add_enum_option<Stage>(app, "--stage", arguments.stage, "dvae, dalle or clip",
                         {Stage::kDvae, Stage::kDalle, Stage::kClip});
  app.add_option("--ranks", arguments.ranks, "numbers of ranks to compare, e.g. 1,2,4")
      ->delimiter(',')
      ->transform(whole_number(1, 1024))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "steps per run, of which the second half is measured")
      ->transform(whole_number(2, 1'000'000))
      ->capture_default_str();
  add_device_option(app, arguments.device);
  add_json_option(app, arguments.json);
}

/// Reduces training to the measured steps and little else.
void shorten(TrainConfig& train, int64_t steps) {
  train.steps = steps;
  train.warmup_steps = 0;
  train.log_every = std::max<int64_t>(1, steps - steps / 2);
  train.eval_every = train.save_every = steps;
  train.save_every_minutes = 0;
  train.eval_samples = 2;  // the fewest that the contrastive model can compare
}

TrainConfig& measured(ExperimentConfig& config, Stage stage) {
  if (stage == Stage::kDvae) return config.dvae.train;
  if (stage == Stage::kClip) return config.clip->train;
  return config.dalle.train;
}

/// The experiment with the stage's batch multiplied by the number of ranks, so that each rank has
/// as much work as a single one, except that the contrastive model's ranks compare more samples.
ExperimentConfig weakly_scaled(ExperimentConfig config, const TrainArguments& arguments,
                               int64_t ranks) {
  const bool is_dvae = arguments.stage == Stage::kDvae, is_clip = arguments.stage == Stage::kClip;
  if (is_clip && !config.clip)
    throw Error("{}: the config has no clip section; add one to train it", arguments.config);
  shorten(config.dvae.train, is_dvae ? arguments.steps : 1);
  shorten(config.dalle.train, arguments.steps);
  config.dalle.train.sample_every = arguments.steps;
  config.dalle.cache_codes = false;  // which would first encode the whole data set
  config.sample.captions = {"a"};
  config.sample.count = 1;
  if (is_clip)
    shorten(config.clip->train, arguments.steps);
  else
    config.clip.reset();
  if (is_dvae) {
    config.dvae.checkpoint.clear();
    config.dvae.checkpoint_sha256.clear();
    config.dvae.freeze = false;
  }
  measured(config, arguments.stage).batch_size *= ranks;
  if (!is_dvae) config.dvae.train.batch_size = ranks, config.dvae.train.micro_batch_size = 1;
  return config;
}

/// Runs dalle-train, which is in the same folder as this program, to completion.
void train(const std::vector<std::string>& options) {
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path() / "dalle-train";
  std::string command = "exec " + shell_word(program.string());
  for (const std::string& option : options) command += ' ' + shell_word(option);
  if (std::system(command.c_str()) != 0) throw Error("{}: failed; see above", program.string());
}

/// The times in a stage's last log line.
Json times_of(const fs::path& metrics, const std::string& stage) {
  Json times;
  for_each_metric_line(metrics, [&](const Json& line) {
    if (line.contains("loss") && line.at("stage") == stage) times = line.at("time");
  });
  if (times.is_null())
    throw Error("{}: found no log line of the {} stage", metrics.string(), stage);
  return times;
}

std::string training_row(const Json& result, double alone) {
  const Json& time = result.at("time");
  const double speed = time.at("samples_per_s").get<double>();
  const auto or_dash = [&](const char* name, const char* format) {
    return time.contains(name) ? fmt::format(fmt::runtime(format), time.at(name).get<double>())
                               : "-";
  };
  const auto ranks = result.at("ranks").get<int64_t>();
  return fmt::format(
      "{:>5} {:>6} {:>9.1f} {:>9.1f} {:>9.0f}% {:>9} {:>8} {:>12} {:>9.1f} {:>6.1f}%\n", ranks,
      result.at("batch").get<int64_t>(), time.at("step_ms").get<double>(), speed,
      100 * speed / (alone * static_cast<double>(ranks)), or_dash("sync_ms", "{:.1f}"),
      or_dash("comm_overlap", "{:.0f}%"),
      time.contains("compute_ms")
          ? or_dash("compute_ms/min", "{:.0f}") + " to " + or_dash("compute_ms/max", "{:.0f}")
          : "-",
      time.at("gflops").get<double>(), time.at("matmul_utilization").get<double>());
}

/// Trains on this many ranks, in a folder of its own inside `folder`.
Json measure_training(const ExperimentConfig& config, const TrainArguments& arguments,
                      int64_t ranks, const fs::path& folder) {
  ExperimentConfig scaled = weakly_scaled(config, arguments, ranks);
  const fs::path run = folder / fmt::format("run-{}", ranks);
  const fs::path yaml = folder / fmt::format("{}.yaml", ranks);
  write_file_atomically(yaml, dump_config(scaled));
  // DALL-E needs the stages before it, the contrastive model only the tokenizer.
  const std::string stage(to_string(arguments.stage));
  std::vector<std::string> stages = {arguments.stage == Stage::kDalle ? "" : stage};
  if (arguments.stage == Stage::kClip) stages.insert(stages.begin(), "tokenizer");
  for (const std::string& only : stages) {
    std::vector<std::string> options = {"--config",   yaml.string(),   "--run-dir",
                                        run.string(), "--ranks",       fmt::format("{}", ranks),
                                        "--device",   arguments.device};
    if (!only.empty()) options.insert(options.end(), {"--stage", only});
    train(options);
  }
  Json result = {{"ranks", ranks},
                 {"batch", measured(scaled, arguments.stage).batch_size},
                 {"time", times_of(RunPaths(run).metrics(), stage)}};
  fs::remove_all(run);
  return result;
}

int bench_train(const TrainArguments& arguments) {
  const ExperimentConfig config = load_experiment(arguments.config, arguments.overrides);
  const StagingFolder folder(fs::temp_directory_path() / "dalle-bench");
  Json results = Json::array();
  for (const int64_t ranks : arguments.ranks)
    results.push_back(measure_training(config, arguments, ranks, folder.path()));
  const auto alone = results[0].at("time").at("samples_per_s").get<double>() /
                     results[0].at("ranks").get<double>();
  std::cout << fmt::format("{}: stage {}, the same batch for each rank; {}, {} processors\n",
                           config.name, to_string(arguments.stage), this_processor().model,
                           std::thread::hardware_concurrency())
            << fmt::format("{:>5} {:>6} {:>9} {:>9} {:>10} {:>9} {:>8} {:>12} {:>9} {:>7}\n",
                           "ranks", "batch", "ms/step", "img/s", "efficiency", "sync ms", "overlap",
                           "compute ms", "GFLOP/s", "peak");
  for (const Json& result : results) std::cout << training_row(result, alone);
  write_numbers(arguments.json, {{"config", config.name},
                                 {"stage", to_string(arguments.stage)},
                                 {"processor", this_processor().model},
                                 {"processors", std::thread::hardware_concurrency()},
                                 {"results", results}});
  return 0;
}

}  // namespace

Benchmark add_bench_train(CLI::App& app) {
  const auto arguments = std::make_shared<TrainArguments>();
  add_options(app, *arguments);
  return [arguments] { return bench_train(*arguments); };
}

}  // namespace dalle
