#include "experiment/config/load_experiment.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/manifest.h"
#include "core/config/config_io.h"
#include "core/config/config_reader.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/config/dvae_source.h"
#include "experiment/config/weight_source.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// Sets dvae.model, dvae.checkpoint and dvae.checkpoint_sha256 to what find_trained_dvae() says.
/// Overrides of other values are problems; a file's values are those of a dVAE to train, which is
/// not needed.
/// @return false if there is no such dVAE, which is a problem too
bool take_trained_dvae(ConfigReading& reading, ExperimentConfig& config) {
  DvaeStageConfig& dvae = config.dvae;
  if (dvae.checkpoint.empty()) return true;
  // A run has a copy of its dVAE, so it resumes where the original does not exist.
  if (!dvae.checkpoint_sha256.empty() && !fs::exists(dvae.checkpoint)) return true;
  const auto report = [&](const std::string& key, std::string message) {
    reading.problems.push_back({reading.place_of(key), key, std::move(message)});
  };
  try {
    const DvaeSource found = find_trained_dvae(dvae.checkpoint, config.dalle.dvae_checkpoint);
    std::string replaced;
    for (const ConfigChange& change : diff_configs(dvae.model, found.model)) {
      const std::string key = "dvae.model." + change.key, place = reading.place_of(key);
      if (place.starts_with("--set "))
        report(key, fmt::format("found {}, expected {}, as in the dVAE at dvae.checkpoint; omit "
                                "this --set",
                                change.old_value, change.new_value));
      else if (!place.empty())
        replaced += fmt::format("{} {}: {} -> {}", replaced.empty() ? "" : ",", change.key,
                                change.old_value, change.new_value);
    }
    if (!replaced.empty()) log_info("dvae.model is that of dvae.checkpoint:{}", replaced);
    if (!dvae.checkpoint_sha256.empty() && dvae.checkpoint_sha256 != found.hash)
      report(
          "dvae.checkpoint_sha256",
          fmt::format("found {}, expected {}, the SHA-256 of the weights in {}: a different dVAE",
                      dvae.checkpoint_sha256, found.hash, found.checkpoint.string()));
    dvae.model = found.model;
    dvae.checkpoint = found.checkpoint.string();
    dvae.checkpoint_sha256 = found.hash;
    return true;
  } catch (const Error& error) {
    report("dvae.checkpoint", error.what());
    return false;
  }
}

/// Adds the conflicts of the config that was read to the problems of reading it.
ExperimentConfig finish(ConfigReading reading, std::string_view source, ConfigUse use) {
  ExperimentConfig config;
  apply(reading, config);
  if (reading.is_empty) {
    reading.problems.push_back(
        {std::string(source), "",
         "found no keys (empty, or only comments), expected the YAML of an experiment"});
  } else if (reading.is_readable && take_trained_dvae(reading, config) &&
             take_weight_source(reading, config)) {
    std::set<std::string, std::less<>> wrong;
    for (const ConfigProblem& problem : reading.problems) wrong.insert(problem.key);
    for (ConfigConflict& conflict : validate(config, use)) {
      const auto is_wrong = [&](const std::string& key) { return wrong.contains(key); };
      if (is_wrong(conflict.key) || std::ranges::any_of(conflict.involves, is_wrong)) continue;
      std::string place = reading.place_of(conflict.key);
      for (const std::string& key : conflict.involves)
        if (place.empty()) place = reading.place_of(key);
      if (place.empty()) place = source;
      reading.problems.push_back(
          {std::move(place), std::move(conflict.key), std::move(conflict.message)});
    }
  }
  reading.throw_problems();
  return config;
}

/// The config with which a model is trained further, as YAML: its run's, which also has the
/// sections of stages that were added later, or its checkpoint's.
std::string config_to_tune(const fs::path& path) {
  const fs::path of_run = RunPaths(path).config();
  const bool is_run = fs::exists(of_run) && !is_checkpoint(path);
  ExperimentConfig config =
      is_run ? load_config_text<ExperimentConfig>(read_file(of_run), of_run.string())
             : find_weight_source(path).config;
  config.name += "-tuned";
  config.from = {};
  config.dvae.checkpoint.clear();
  config.dvae.checkpoint_sha256.clear();
  config.dvae.freeze = true;
  config.tokenizer.model.clear();
  return dump_config(config);
}

}  // namespace

ExperimentConfig load_experiment(const fs::path& path, std::span<const std::string> overrides,
                                 ConfigUse use) {
  return finish(read_config_file(config_schema<ExperimentConfig>(), path, overrides), path.string(),
                use);
}

ExperimentConfig load_experiment_text(const std::string& text, std::string_view source,
                                      std::span<const std::string> overrides, ConfigUse use) {
  return finish(read_config_text(config_schema<ExperimentConfig>(), text, source, overrides),
                source, use);
}

ExperimentConfig load_training(const TrainingFiles& files, std::vector<std::string> overrides,
                               ConfigUse use) {
  if (!files.from.empty()) overrides.push_back("from.checkpoint=" + files.from);
  if (files.text) return load_experiment_text(*files.text, files.config, overrides, use);
  if (!files.config.empty() || files.from.empty())
    return load_experiment(files.config, overrides, use);
  const std::string source = "config of " + files.from;
  try {
    return load_experiment_text(config_to_tune(files.from), source, overrides, use);
  } catch (const ConfigError& error) {  // its lines are in no file
    std::vector<ConfigProblem> problems = error.problems();
    for (ConfigProblem& problem : problems)
      if (problem.place.starts_with(source)) problem.place = source;
    throw ConfigError(std::move(problems));
  }
}

}  // namespace dalle
