#include "experiment/config/dvae_source.h"

#include <algorithm>
#include <utility>

#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "experiment/config/model_files.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

bool is_of_dvae(const fs::path& checkpoint) {
  return stage_of(checkpoint) == Stage::kDvae;
}

/// A training that continues may have a different best dVAE later.
void check_is_finished(const fs::path& stage) {
  const CheckpointContent newest = read_dvae_checkpoint(checkpoints_in(stage), {kConfigFile});
  const int64_t steps = config_of(newest).dvae.train.steps;
  if (newest.step < steps)
    throw Error(
        "{}: the dVAE is at step {} of {}, expected a finished one; finish its dvae stage, or give "
        "one of its checkpoints",
        stage.string(), newest.step, steps);
}

}  // namespace

std::vector<fs::path> dvae_checkpoints(const fs::path& given, DvaeCheckpoint which) {
  const fs::path path = followed(given);
  if (is_checkpoint(path)) return is_of_dvae(path) ? std::vector{path} : std::vector<fs::path>();
  for (const fs::path& folder : folders_of_stage(path, Stage::kDvae)) {
    std::vector<fs::path> checkpoints = checkpoints_in(folder);
    if (checkpoints.empty() || (folder == path && std::ranges::none_of(checkpoints, is_of_dvae)))
      continue;
    if (which == DvaeCheckpoint::kBest)
      std::stable_partition(
          checkpoints.begin(), checkpoints.end(),
          [best = best_checkpoint(folder)](const fs::path& one) { return one == best; });
    return checkpoints;
  }
  return {};
}

CheckpointContent read_dvae_checkpoint(std::span<const fs::path> checkpoints,
                                       const std::set<std::string>& only,
                                       const std::set<std::string>& later) {
  DALLE_CHECK(!checkpoints.empty());
  auto found = read_first_valid(checkpoints.first(checkpoints.size() - 1), only, later);
  return found ? std::move(*found) : read_checkpoint(checkpoints.back(), only, later);
}

DvaeSource find_trained_dvae(const fs::path& given, DvaeCheckpoint which) {
  const fs::path path = existing_folder(
      given,
      "checkpoint or run (a run that was trained on it has a copy, and resumes with --config "
      "RUN/config.yaml)",
      "; dalle-import converts the files of OpenAI's dVAE");
  const bool is_single = is_checkpoint(path);
  if (is_single) read_manifest(path);  // names a corrupt one, of which stage_of() says nothing
  if (const auto stage = is_single ? stage_of(path) : std::nullopt; stage && stage != Stage::kDvae)
    throw Error("{}: a checkpoint of the {} stage, expected one of the dvae stage", path.string(),
                to_string(*stage));
  const std::vector<fs::path> checkpoints = dvae_checkpoints(path, which);
  if (checkpoints.empty()) throw Error("{}: holds no checkpoint of the dvae stage", path.string());
  if (!is_single) check_is_finished(checkpoints.front().parent_path());
  const CheckpointContent found =
      read_dvae_checkpoint(checkpoints, {kConfigFile, kEmaTensors}, /*later=*/{kEmaTensors});
  const std::string weights = tensors_file(found.path, kEmaTensors).filename().string();
  return {.checkpoint = found.path,
          .hash = read_manifest(found.path).files.at(weights).sha256,
          .model = config_of(found).dvae.model};
}

}  // namespace dalle
