#include "experiment/initial_weights.h"

#include <filesystem>
#include <set>
#include <utility>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "experiment/model_files.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSourceFile = "source.json";

/// The manifest's SHA-256 of the original of the copy in `folder`; empty if there is no valid copy.
std::string hash_of_original(const fs::path& folder) {
  try {
    const auto copy = read_newest_checkpoint(folder, {kSourceFile});
    if (!copy) return "";
    return nlohmann::json::parse(copy->files.at(kSourceFile)).at("manifest_sha256");
  } catch (const Error& error) {
    log_warning("{}; copying it again", error.what());
    return "";
  }
}

void copy_checkpoint(const fs::path& original, const std::string& hash, const RunPaths& run) {
  if (!fs::exists(original))
    throw Error("from: {}: no such folder, and the run has no copy of it yet", original.string());
  if (sha256_of_file(original / Manifest::kFileName) != hash)
    throw Error("{}: has changed since the config was loaded", original.string());
  const Stage kind = stage_of(original).value();
  const std::string_view stage = to_string(kind);
  std::set<std::string> parts = {kEmaTensors, kConfigFile};
  if (kind != Stage::kDvae) parts.insert(kTokenizerFile);
  if (kind == Stage::kDalle) parts.insert(kDvaeTensors);
  CheckpointContent content = read_checkpoint(original, parts);
  const nlohmann::ordered_json source{
      {"checkpoint", original.string()}, {"manifest_sha256", hash}, {"step", content.step}};
  content.files[kSourceFile] = source.dump(2) + "\n";
  fs::remove_all(run.from(stage));  // of another source, or corrupt
  CheckpointStore(run.from(stage), /*keep_last=*/1).save(content);
  log_info("{}: the run begins with the weights of step {} of {}", stage, content.step,
           original.string());
}

/// The stage whose checkpoint from.checkpoint names, by the copy.
Stage copied_stage(const RunPaths& run) {
  for (const Stage stage : {Stage::kDalle, Stage::kDvae})
    if (!checkpoints_in(run.from(to_string(stage))).empty()) return stage;
  throw Error("{}: holds no copy of the weights that the run begins with",
              (run.root / "from").string());
}

CheckpointContent read_copy(const RunPaths& run, Stage stage, const std::set<std::string>& only) {
  const fs::path folder = run.from(to_string(stage));
  auto copy = read_newest_checkpoint(folder, only);
  if (!copy) throw Error("{}: holds no copy of what the stage begins with", folder.string());
  return std::move(*copy);
}

}  // namespace

void copy_weight_sources(const ExperimentConfig& config, const RunPaths& run) {
  const FromConfig& from = config.from;
  if (!from.checkpoint.empty() && !has_started(run, Stage::kDalle) &&
      hash_of_original(run.from("dalle")) != from.checkpoint_sha256 &&
      hash_of_original(run.from("dvae")) != from.checkpoint_sha256) {
    for (const char* stage : {"dalle", "dvae"}) fs::remove_all(run.from(stage));
    copy_checkpoint(from.checkpoint, from.checkpoint_sha256, run);
  }
  if (!from.clip_checkpoint.empty() && config.clip && !has_started(run, Stage::kClip) &&
      hash_of_original(run.from("clip")) != from.clip_checkpoint_sha256)
    copy_checkpoint(from.clip_checkpoint, from.clip_checkpoint_sha256, run);
}

std::optional<NamedTensors> initial_weights(const ExperimentConfig& config, const RunPaths& run,
                                            Stage stage) {
  if (config.from.checkpoint.empty()) return std::nullopt;
  if (stage == Stage::kClip) {
    if (config.from.clip_checkpoint.empty()) return std::nullopt;
    return read_copy(run, stage, {kEmaTensors}).tensors.at(kEmaTensors);
  }
  const Stage source = copied_stage(run);
  if (source == Stage::kDvae && stage == Stage::kDalle) return std::nullopt;
  const char* name = source == stage ? kEmaTensors : kDvaeTensors;
  return read_copy(run, source, {name}).tensors.at(name);
}

std::optional<std::string> initial_tokenizer(const ExperimentConfig& config, const RunPaths& run) {
  if (config.from.checkpoint.empty()) return std::nullopt;
  const bool is_copy_removed = !fs::exists(run.root / "from") && fs::exists(run.tokenizer());
  if (is_copy_removed || copied_stage(run) != Stage::kDalle) return std::nullopt;
  return read_copy(run, Stage::kDalle, {kTokenizerFile}).files.at(kTokenizerFile);
}

}  // namespace dalle
