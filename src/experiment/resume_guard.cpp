#include "experiment/resume_guard.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/fingerprint.h"

namespace dalle {
namespace {

/// What tells this data set from others, for the run folder.
std::string data_description(const ExperimentConfig& config, const ExperimentData& data) {
  std::string text = data.fingerprint();
  if (config.data.kind != DatasetKind::kShapes)
    text += fmt::format("contents: {} {}\n", content_fingerprint(data.train()),
                        content_fingerprint(data.validation()));
  return text;
}

/// The description in the run folder, in this version's wording.
std::string recorded_description(const RunPaths& run) {
  std::string text = read_file(run.data());
  constexpr std::string_view kFormerWord = " pictures, ";  // before version 0.2
  for (size_t at; (at = text.find(kFormerWord)) != text.npos;)
    text.replace(at, kFormerWord.size(), " images, ");
  return text;
}

/// Whether the data were at another path: there, even the same names may be those of other images.
bool has_moved(const PreviousRun& previous, const ExperimentConfig& config) {
  return previous.config && (previous.config->data.path != config.data.path ||
                             previous.config->data.validation_path != config.data.validation_path);
}

}  // namespace

PreviousRun read_previous_run(const RunPaths& run) {
  PreviousRun previous;
  for (const auto& [stage, name] : enum_names(Stage{}))
    if (has_started(run, stage)) previous.started.insert(stage);
  if (!previous.started.empty() && std::filesystem::exists(run.config()))
    previous.config =
        load_config_text<ExperimentConfig>(read_file(run.config()), run.config().string());
  return previous;
}

void check_config_change(const PreviousRun& previous, const ExperimentConfig& config,
                         const RunPaths& run, bool allowed) {
  if (!previous.config) return;
  const std::string& old_dvae = previous.config->dvae.checkpoint_sha256;
  const std::string& new_dvae = config.dvae.checkpoint_sha256;
  if (previous.started.contains(Stage::kDalle) && old_dvae != new_dvae)
    throw Error(
        "{}: dvae.checkpoint_sha256: {:?} -> {:?}: the transformer was trained on the codes of the "
        "previous dVAE; use that one again, or start over with --restart",
        run.root.string(), old_dvae, new_dvae);
  const FromConfig& old_from = previous.config->from;
  if (old_from.checkpoint_sha256 != config.from.checkpoint_sha256)
    throw Error(
        "{}: from.checkpoint_sha256: {:?} -> {:?}: the run began with {}; resume with --config {}, "
        "or start over with --restart",
        run.root.string(), old_from.checkpoint_sha256, config.from.checkpoint_sha256,
        old_from.checkpoint.empty() ? "random weights" : "the weights of " + old_from.checkpoint,
        run.config().string());
  const std::vector<std::string> changeable =
      keys_that_may_change(config_schema<ExperimentConfig>());
  std::vector<std::string_view> ignored(changeable.begin(), changeable.end());
  for (const auto& [stage, name] : enum_names(Stage{}))
    if (!previous.started.contains(stage)) ignored.push_back(name);
  if (!previous.started.contains(Stage::kClip)) ignored.push_back("from.clip_checkpoint_sha256");
  // A dVAE that was trained elsewhere has no stage here, but the transformer learns its codes.
  if (previous.started.contains(Stage::kDalle) && !previous.started.contains(Stage::kDvae))
    std::ranges::replace(ignored, std::string_view("dvae"), std::string_view("dvae.train"));
  std::string list;
  for (const auto& [key, old_value, new_value] : diff_configs(*previous.config, config, ignored))
    list += fmt::format("\n  {}: {} -> {}", key, old_value, new_value);
  if (list.empty()) return;
  if (!allowed)
    throw Error(
        "{}: the config differs from the one that the run started with; start over with --restart, "
        "resume with --allow-config-change, or change back:{}",
        run.root.string(), list);
  log_warning("{}: resuming with a config that differs from the one that the run started with:{}",
              run.root.string(), list);
}

void check_data_change(const PreviousRun& previous, const ExperimentConfig& config,
                       const ExperimentData& data, const RunPaths& run, bool allowed) {
  const std::string now = data_description(config, data);
  const std::string before = std::filesystem::exists(run.data()) ? recorded_description(run) : now;
  // Run folders of former versions hold only the fingerprint.
  const bool same_names = before.starts_with(data.fingerprint());
  const bool same_contents = now == before || before == data.fingerprint();
  const bool differs = !same_names || (!same_contents && has_moved(previous, config));
  if (differs && !previous.started.empty()) {
    const std::string change = fmt::format("it was\n{}and is now\n{}", before, now);
    if (!allowed)
      throw Error(
          "{}: the run started with a different data set; start over with --restart, resume with "
          "--allow-config-change, or restore the images: {}",
          run.root.string(), change);
    log_warning("{}: resuming with a different data set than the run started with: {}",
                run.root.string(), change);
  } else if (!same_contents && !previous.started.empty()) {
    log_warning("{}: some images or captions have changed since the run started",
                run.root.string());
  }
  write_file_atomically(run.data(), now);
}

}  // namespace dalle
