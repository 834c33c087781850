#include "bench_train.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/machine.h"
#include "experiment/config/load_experiment.h"
#include "train/run_folder.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// A temporary folder for the runs, removed when done.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "dalle-bench-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw Error("{}: cannot create: {}", pattern, std::strerror(errno));
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // leftovers are in the system's temporary folder
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// Reduces training to the measured steps and little else.
void shorten(TrainConfig& train, int64_t steps) {
  train.steps = steps;
  train.warmup_steps = 0;
  train.log_every = std::max<int64_t>(1, steps - steps / 2);
  train.eval_every = train.save_every = steps;
  train.save_every_minutes = 0;
  train.eval_samples = 2;  // the fewest that the contrastive model can compare
}

TrainConfig& measured(ExperimentConfig& config, const std::string& stage) {
  if (stage == "dvae") return config.dvae.train;
  if (stage == "clip") return config.clip->train;
  return config.dalle.train;
}

/// The experiment with the stage's batch multiplied by the number of ranks, so that each rank has
/// as much work as a single one, except that the contrastive model's ranks compare more samples.
ExperimentConfig weakly_scaled(ExperimentConfig config, const BenchTrainArguments& arguments,
                               int64_t ranks) {
  const bool is_dvae = arguments.stage == "dvae", is_clip = arguments.stage == "clip";
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
  std::vector<std::string> words = {
      (fs::read_symlink("/proc/self/exe").parent_path() / "dalle-train").string()};
  words.insert(words.end(), options.begin(), options.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t process = ::fork();
  if (process == 0) {
    ::execv(arguments[0], arguments.data());
    std::_Exit(127);
  }
  int status = 0;
  if (process < 0 || ::waitpid(process, &status, 0) != process)
    throw Error("{}: cannot start: {}", words[0], std::strerror(errno));
  if (status != 0) throw Error("{}: failed; see above", words[0]);
}

/// The times in a stage's last log line.
Json times_of(const fs::path& metrics, const std::string& stage) {
  Json times;
  std::istringstream lines(read_file(metrics));
  for (std::string line; std::getline(lines, line);) {
    const Json report = Json::parse(line);
    if (report.at("stage") == stage && report.contains("loss")) times = report.at("time");
  }
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

}  // namespace

int bench_train(const BenchTrainArguments& arguments) {
  const ExperimentConfig config = load_experiment(arguments.config, arguments.overrides);
  const TemporaryFolder folder;
  Json results = Json::array();
  for (const int64_t ranks : arguments.ranks) {
    ExperimentConfig scaled = weakly_scaled(config, arguments, ranks);
    const fs::path run = folder / fmt::format("run-{}", ranks);
    const fs::path yaml = folder / fmt::format("{}.yaml", ranks);
    write_file_atomically(yaml, dump_config(scaled));
    const std::vector<std::string> options = {
        "--config", yaml.string(),   "--run-dir", run.string(), "--ranks", fmt::format("{}", ranks),
        "--device", arguments.device};
    // DALL-E needs the stages before it, the contrastive model only the tokenizer.
    std::vector<std::string> stages = {arguments.stage == "dalle" ? "" : arguments.stage};
    if (arguments.stage == "clip") stages.insert(stages.begin(), "tokenizer");
    for (const std::string& stage : stages) {
      std::vector<std::string> words = options;
      if (!stage.empty()) words.insert(words.end(), {"--stage", stage});
      train(words);
    }
    results.push_back({{"ranks", ranks},
                       {"batch", measured(scaled, arguments.stage).batch_size},
                       {"time", times_of(RunPaths(run).metrics(), arguments.stage)}});
    fs::remove_all(run);
  }
  const auto alone = results[0].at("time").at("samples_per_s").get<double>() /
                     results[0].at("ranks").get<double>();
  std::cout << fmt::format("{}: stage {}, the same batch for each rank; {}, {} processors\n",
                           config.name, arguments.stage, this_processor().model,
                           std::thread::hardware_concurrency())
            << fmt::format("{:>5} {:>6} {:>9} {:>9} {:>10} {:>9} {:>8} {:>12} {:>9} {:>7}\n",
                           "ranks", "batch", "ms/step", "img/s", "efficiency", "sync ms", "overlap",
                           "compute ms", "GFLOP/s", "peak");
  for (const Json& result : results) std::cout << training_row(result, alone);
  if (!arguments.json.empty())
    write_file_atomically(arguments.json, Json{{"config", config.name},
                                               {"stage", arguments.stage},
                                               {"processor", this_processor().model},
                                               {"processors", std::thread::hardware_concurrency()},
                                               {"results", results}}
                                                  .dump(2) +
                                              "\n");
  return 0;
}

}  // namespace dalle
