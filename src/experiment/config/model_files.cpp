#include "experiment/config/model_files.h"

#include <string>

#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/build_info.h"
#include "core/config/config_io.h"
#include "core/error.h"
#include "core/files.h"
#include "core/machine.h"
#include "train/run_folder.h"

namespace dalle {

namespace fs = std::filesystem;

fs::path followed(const fs::path& path) {
  const bool points = path.filename() == "latest" || path.filename() == "best";
  if (!points || !fs::is_regular_file(path)) return path;
  std::string name = read_file(path);
  while (name.ends_with('\n')) name.pop_back();
  const fs::path checkpoint = path.parent_path() / name;
  if (!fs::exists(checkpoint))
    throw Error("{}: points to checkpoint {:?}, which does not exist in its folder", path.string(),
                name);
  return checkpoint;
}

fs::path existing_folder(const fs::path& path, std::string_view expected,
                         std::string_view for_files) {
  fs::path folder = followed(path);
  if (!fs::exists(folder)) throw Error("{}: no such {}", folder.string(), expected);
  if (!fs::is_directory(folder))
    throw Error("{}: found a file, expected the folder of a run or of a checkpoint{}",
                folder.string(), for_files);
  return folder;
}

std::array<fs::path, 3> folders_of_stage(const fs::path& path, Stage stage) {
  return {RunPaths(path).checkpoints(to_string(stage)), path / to_string(stage), path};
}

std::optional<fs::path> find_stage_folder(const fs::path& path, Stage stage) {
  for (const fs::path& folder : folders_of_stage(path, stage))
    if (const auto checkpoints = checkpoints_in(folder);
        !checkpoints.empty() && stage_of(checkpoints.front()).value_or(stage) == stage)
      return folder;
  return std::nullopt;
}

fs::path clip_folder(const fs::path& checkpoint) {
  return fs::absolute(checkpoint).lexically_normal().parent_path().parent_path() / "clip";
}

std::optional<Stage> stage_of(const fs::path& checkpoint) {
  try {
    const auto files = read_manifest(checkpoint).files;
    if (files.contains(kClipVocabularyFile)) return Stage::kClip;
    if (!files.contains(kTokenizerFile)) return Stage::kDvae;
    return files.contains(tensors_file("", kDvaeTensors).string()) ? Stage::kDalle : Stage::kClip;
  } catch (const Error&) {
    return std::nullopt;
  }
}

ExperimentConfig config_of(const CheckpointContent& content) {
  const std::string file = (content.path / kConfigFile).string();
  try {
    return load_config_text<ExperimentConfig>(content.files.at(kConfigFile), file);
  } catch (const ConfigError& error) {  // its bytes are as they were saved
    throw Error(
        "{}: saved by a different version of dalle, whose config this build ({}) cannot read: {}",
        content.path.string(), build_info().version, error.what());
  }
}

Precision sampling_precision(Precision trained, c10::Device device) {
  const bool emulated = device.is_cpu() && !this_processor().has_bf16_matmul;
  return emulated ? Precision::kFloat32 : trained;
}

}  // namespace dalle
