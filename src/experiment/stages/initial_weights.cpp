#include "experiment/stages/initial_weights.h"

#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/log.h"
#include "experiment/config/model_files.h"

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
    verify_checkpoint(copy->path);
    return nlohmann::json::parse(copy->files.at(kSourceFile)).at("manifest_sha256");
  } catch (const Error& error) {
    log_warning("{}; copying it again", error.what());
    return "";
  }
}

/// Checks that a source is still the one that the config recorded.
/// @param remedy  ends the message if it is not
void check_original(const char* key, const fs::path& original, const std::string& hash,
                    const std::string& remedy) {
  DALLE_CHECK(!hash.empty());
  if (!is_checkpoint(original))
    throw Error("{}: {}: no such checkpoint{}", key, original.string(), remedy);
  if (const std::string found = manifest_hash(original); found != hash)
    throw Error("{}: found SHA-256 {} at {}, expected {}{}", key, found, original.string(), hash,
                remedy);
}

/// @param replaced  the stages whose copies make room for it, once it has been read
void copy_checkpoint(const char* key, const fs::path& original, const std::string& hash,
                     const RunPaths& run, const std::vector<Stage>& replaced) {
  check_original(key, original, hash, ", and the run has no intact copy of it");
  const Stage kind = stage_of(original).value();
  const std::string_view stage = to_string(kind);
  std::set<std::string> parts = {kEmaTensors, kConfigFile};
  if (kind != Stage::kDvae) parts.insert(kTokenizerFile);
  if (kind == Stage::kDalle) parts.insert(kDvaeTensors);
  CheckpointContent content = read_checkpoint(original, parts);
  const nlohmann::ordered_json source{
      {"checkpoint", original.string()}, {"manifest_sha256", hash}, {"step", content.step}};
  content.files[kSourceFile] = source.dump(2) + "\n";
  for (const Stage other : replaced) fs::remove_all(run.from(to_string(other)));
  CheckpointStore(run.from(stage), /*keep_last=*/1).save(content);
  log_info("{}: initializing the run from step {} of {}", stage, content.step, original.string());
}

/// The stage whose checkpoint from.checkpoint names, by the copy; kDalle if there is none.
Stage copied_stage(const RunPaths& run) {
  return checkpoints_in(run.from("dalle")).empty() && !checkpoints_in(run.from("dvae")).empty()
             ? Stage::kDvae
             : Stage::kDalle;
}

CheckpointContent read_copy(const FromConfig& from, const RunPaths& run, Stage stage,
                            const std::set<std::string>& only) {
  const fs::path folder = run.from(to_string(stage));
  auto copy = read_newest_checkpoint(folder, only);
  if (!copy)
    throw Error(
        "{}: missing; expected the copy of {} that the run made at its start; restore it, or start "
        "over with --restart",
        folder.string(), stage == Stage::kClip ? from.clip_checkpoint : from.checkpoint);
  return std::move(*copy);
}

}  // namespace

void check_weight_sources(const ExperimentConfig& config, const RunPaths& run) {
  const FromConfig& from = config.from;
  const std::string copies = (run.root / "from").string();
  const std::string remedy =
      fs::exists(copies)
          ? fmt::format("; {} has a copy: copy it elsewhere and give that with --from", copies)
          : "";
  if (!from.checkpoint.empty())
    check_original("from.checkpoint", from.checkpoint, from.checkpoint_sha256, remedy);
  if (!from.clip_checkpoint.empty() && config.clip)
    check_original("from.clip_checkpoint", from.clip_checkpoint, from.clip_checkpoint_sha256,
                   remedy);
}

void copy_weight_sources(const ExperimentConfig& config, const RunPaths& run) {
  const FromConfig& from = config.from;
  if (!from.checkpoint.empty() && !has_started(run, Stage::kDalle) &&
      hash_of_original(run.from("dalle")) != from.checkpoint_sha256 &&
      hash_of_original(run.from("dvae")) != from.checkpoint_sha256)
    copy_checkpoint("from.checkpoint", from.checkpoint, from.checkpoint_sha256, run,
                    {Stage::kDalle, Stage::kDvae});
  if (!from.clip_checkpoint.empty() && config.clip && !has_started(run, Stage::kClip) &&
      hash_of_original(run.from("clip")) != from.clip_checkpoint_sha256)
    copy_checkpoint("from.clip_checkpoint", from.clip_checkpoint, from.clip_checkpoint_sha256, run,
                    {Stage::kClip});
}

std::optional<NamedTensors> initial_weights(const ExperimentConfig& config, const RunPaths& run,
                                            Stage stage) {
  const FromConfig& from = config.from;
  if (from.checkpoint.empty()) return std::nullopt;
  if (stage == Stage::kClip) {
    if (from.clip_checkpoint.empty()) return std::nullopt;
    return read_copy(from, run, stage, {kEmaTensors}).tensors.at(kEmaTensors);
  }
  const Stage source = copied_stage(run);
  if (source == Stage::kDvae && stage == Stage::kDalle) return std::nullopt;
  const char* name = source == stage ? kEmaTensors : kDvaeTensors;
  return read_copy(from, run, source, {name}).tensors.at(name);
}

std::optional<std::string> initial_tokenizer(const ExperimentConfig& config, const RunPaths& run) {
  if (config.from.checkpoint.empty()) return std::nullopt;
  const bool is_copy_removed = !fs::exists(run.root / "from") && fs::exists(run.tokenizer());
  if (is_copy_removed || copied_stage(run) != Stage::kDalle) return std::nullopt;
  return read_copy(config.from, run, Stage::kDalle, {kTokenizerFile}).files.at(kTokenizerFile);
}

}  // namespace dalle
