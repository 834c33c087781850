#include "experiment/config/weight_source.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/log.h"
#include "experiment/config/dvae_source.h"
#include "experiment/config/model_files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSource =
    "checkpoint or run (a run that was initialized from it has a copy; resume that run with "
    "--config RUN/config.yaml)";

WeightSource source_at(const fs::path& checkpoint, Stage stage) {
  const CheckpointContent content = read_checkpoint(checkpoint, {kConfigFile});
  const auto files = read_manifest(checkpoint).files;
  const auto tokenizer = files.find(kTokenizerFile);
  return {.checkpoint = checkpoint,
          .hash = manifest_hash(checkpoint),
          .step = content.step,
          .stage = stage,
          .tokenizer_hash = tokenizer == files.end() ? "" : tokenizer->second.sha256,
          .config = config_of(content)};
}

/// The newest valid checkpoint of a finished stage at `path`; nothing if there is none of that
/// stage. A training that continues would have a different one later.
std::optional<WeightSource> finished_stage(const fs::path& path, Stage stage) {
  const std::optional<fs::path> folder = find_stage_folder(path, stage);
  if (!folder) return std::nullopt;
  WeightSource found = source_at(read_newest_checkpoint(*folder, {kConfigFile})->path, stage);
  const ExperimentConfig& config = found.config;
  const int64_t steps =
      stage == Stage::kClip && config.clip ? config.clip->train.steps : config.dalle.train.steps;
  if (found.step < steps)
    throw Error(
        "{}: the {} stage is at step {} of {}, expected a finished one; finish it, or give one of "
        "its checkpoints",
        folder->string(), to_string(stage), found.step, steps);
  return found;
}

std::optional<WeightSource> checkpoint_itself(const fs::path& path) {
  if (!is_checkpoint(path)) return std::nullopt;
  read_manifest(path);  // names a corrupt one, of which stage_of() says nothing
  return source_at(path, *stage_of(path));
}

/// The contrastive model that from.clip_checkpoint names; see find_weight_source().
WeightSource find_clip_source(const fs::path& given) {
  const fs::path path = existing_folder(given, kSource);
  if (auto found = checkpoint_itself(path)) {
    if (found->stage == Stage::kClip) return std::move(*found);
    throw Error("{}: a checkpoint of the {} stage, expected one of the clip stage", path.string(),
                to_string(found->stage));
  }
  if (auto found = finished_stage(path, Stage::kClip)) return std::move(*found);
  throw Error("{}: holds no checkpoint of the clip stage", path.string());
}

/// The contrastive model of the run that a checkpoint belongs to, if it has a finished one.
std::optional<WeightSource> clip_next_to(const fs::path& checkpoint) {
  const fs::path folder = clip_folder(checkpoint);
  if (checkpoints_in(folder).empty()) return std::nullopt;
  try {
    return finished_stage(folder, Stage::kClip);
  } catch (const Error& error) {  // it was not requested
    log_warning("the contrastive model is randomly initialized: {}", error.what());
    return std::nullopt;
  }
}

template <ConfigStruct T>
void append_changes(std::vector<ConfigChange>& changes, const std::string& prefix, const T& source,
                    const T& config, const std::vector<std::string_view>& training_only) {
  for (ConfigChange& change : diff_configs(source, config, training_only)) {
    change.key = prefix + change.key;
    changes.push_back(std::move(change));
  }
}

/// Adds problems to a reading, at the place of their key or of the key that names the source.
class Problems {
 public:
  Problems(ConfigReading& reading, std::string source_key)
      : reading_(reading), source_key_(std::move(source_key)) {}

  void report(const std::string& key, std::string message) const {
    std::string place = reading_.place_of(key);
    if (place.empty()) place = reading_.place_of(source_key_);
    reading_.problems.push_back({std::move(place), key, std::move(message)});
  }

  /// Reports all mismatches in keys that have no problem yet.
  void check(const WeightSource& source, const ExperimentConfig& config) const {
    for (const ConfigChange& change : mismatches(source, config))
      if (std::ranges::find(reading_.problems, change.key, &ConfigProblem::key) ==
          reading_.problems.end())
        report(change.key, fmt::format("found {}, expected {}, as in the model at {}",
                                       change.new_value, change.old_value, source_key_));
  }

 private:
  ConfigReading& reading_;
  std::string source_key_;
};

/// What a key of `from` names; nothing if a file recorded it and the source is gone or has been
/// replaced since: a run has a copy, so it resumes without it.
/// @throws dalle::Error if there is no such source, or if --from or --set names one that has a
///         different SHA-256
std::optional<WeightSource> find_source(const ConfigReading& reading, const std::string& key,
                                        const std::string& path, const std::string& hash,
                                        WeightSource (*find)(const fs::path&)) {
  const auto is_given = [&](const std::string& of) {
    return reading.place_of(of).starts_with("--set ");
  };
  try {
    WeightSource found = find(path);
    if (hash.empty() || found.hash == hash) return found;
    throw Error(
        "found SHA-256 {} at {}, expected {}; to begin a new run with it, add --set {}_sha256=",
        found.hash, found.checkpoint.string(), hash, key);
  } catch (const Error&) {
    if (hash.empty() || is_given(key) || is_given(key + "_sha256")) throw;
    return std::nullopt;
  }
}

void take_main(const WeightSource& source, const Problems& problems, ExperimentConfig& config) {
  problems.check(source, config);
  if (source.stage == Stage::kDalle && !config.tokenizer.model.empty())
    problems.report("tokenizer.model", fmt::format("found {}; must not be set, because "
                                                   "the tokenizer is that of from.checkpoint",
                                                   config.tokenizer.model));
  config.from.checkpoint = source.checkpoint.string();
  config.from.checkpoint_sha256 = source.hash;
}

/// @param source  of from.checkpoint; nothing if only recorded
void take_clip(const WeightSource& clip, const std::optional<WeightSource>& source,
               const Problems& problems, ExperimentConfig& config) {
  FromConfig& from = config.from;
  problems.check(clip, config);
  if (source && clip.tokenizer_hash != source->tokenizer_hash)
    problems.report("from.clip_checkpoint",
                    fmt::format("{}: its tokenizer differs from that of {}",
                                clip.checkpoint.string(), source->checkpoint.string()));
  from.clip_checkpoint = clip.checkpoint.string();
  from.clip_checkpoint_sha256 = clip.hash;
}

}  // namespace

WeightSource find_weight_source(const fs::path& given) {
  const fs::path path = existing_folder(given, kSource);
  if (auto found = checkpoint_itself(path)) {
    if (found->stage != Stage::kClip) return std::move(*found);
    throw Error("{}: a checkpoint of the clip stage, expected one of the dalle or dvae stage",
                path.string());
  }
  if (auto found = finished_stage(path, Stage::kDalle)) return std::move(*found);
  if (dvae_checkpoints(path, DvaeCheckpoint::kBest).empty())
    throw Error("{}: holds no checkpoint of the dalle or dvae stage", path.string());
  return source_at(find_trained_dvae(path, DvaeCheckpoint::kBest).checkpoint, Stage::kDvae);
}

std::vector<ConfigChange> mismatches(const WeightSource& source, const ExperimentConfig& config) {
  std::vector<ConfigChange> changes;
  const ExperimentConfig& theirs = source.config;
  if (source.stage != Stage::kDvae) {  // a dVAE alone is convolutional, so any size fits
    if (theirs.data.image_size != config.data.image_size)
      changes.push_back({"data.image_size", fmt::to_string(theirs.data.image_size),
                         fmt::to_string(config.data.image_size)});
    if (theirs.tokenizer.vocab_size != config.tokenizer.vocab_size)
      changes.push_back({"tokenizer.vocab_size", fmt::to_string(theirs.tokenizer.vocab_size),
                         fmt::to_string(config.tokenizer.vocab_size)});
  }
  if (source.stage == Stage::kClip) {
    if (theirs.clip && config.clip)
      append_changes(changes, "clip.model.", theirs.clip->model, config.clip->model, {"recompute"});
    return changes;
  }
  append_changes(changes, "dvae.model.", theirs.dvae.model, config.dvae.model,
                 {"log_scale_floor", "codebook_init_std"});
  if (source.stage == Stage::kDvae) return changes;
  const TransformerConfig &old_model = theirs.dalle.model, &new_model = config.dalle.model;
  std::vector<std::string_view> training_only = {"init", "dropout", "text_loss_weight",
                                                 "recompute"};
  if (!old_model.uses_conv() && !new_model.uses_conv()) training_only.push_back("conv_kernel");
  append_changes(changes, "dalle.model.", old_model, new_model, training_only);
  return changes;
}

bool take_weight_source(ConfigReading& reading, ExperimentConfig& config) {
  FromConfig& from = config.from;
  if (from.checkpoint.empty()) return true;
  const bool is_new = from.checkpoint_sha256.empty();
  std::string key = "from.checkpoint";
  try {
    const auto source =
        find_source(reading, key, from.checkpoint, from.checkpoint_sha256, find_weight_source);
    if (source) take_main(*source, Problems(reading, key), config);
    if (!config.clip) return true;
    key = "from.clip_checkpoint";
    const Problems problems(reading, key);
    std::optional<WeightSource> clip;
    if (from.clip_checkpoint.empty()) {  // once recorded, the absence of one is recorded too
      if (is_new && source->stage == Stage::kDalle) clip = clip_next_to(source->checkpoint);
    } else if (source && source->stage == Stage::kDvae) {
      problems.report(key, fmt::format("found {}; must not be set, because from.checkpoint is "
                                       "only a dVAE, whose run trains a new tokenizer",
                                       from.clip_checkpoint));
    } else {
      clip = find_source(reading, key, from.clip_checkpoint, from.clip_checkpoint_sha256,
                         find_clip_source);
    }
    if (clip) take_clip(*clip, source, problems, config);
    return true;
  } catch (const Error& error) {
    Problems(reading, key).report(key, error.what());
    return false;
  }
}

std::string source_report(const ExperimentConfig& config) {
  const FromConfig& from = config.from;
  if (from.checkpoint.empty()) return "";
  const auto row = [](const char* model, std::string_view begin) {
    return fmt::format("  {:<28} {}\n", model, begin);
  };
  std::string text = fmt::format("initialized from {}\n", from.checkpoint);
  if (!is_checkpoint(from.checkpoint) || manifest_hash(from.checkpoint) != from.checkpoint_sha256)
    return text + row("source", "not found; a resumed run uses its copy");
  const bool is_dalle = stage_of(from.checkpoint) == Stage::kDalle;
  text += row("tokenizer", is_dalle ? "kept" : "new");
  text += row("dVAE", config.trains_dvae() ? "trained further" : "kept (dvae.freeze)");
  text += row("transformer", is_dalle ? "trained further" : "new");
  if (config.clip)
    text +=
        row("contrastive model",
            from.clip_checkpoint.empty() ? "new" : "trained further, from " + from.clip_checkpoint);
  return text;
}

}  // namespace dalle
