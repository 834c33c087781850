#include "experiment/evaluation/evaluated_model.h"

#include <set>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/files.h"
#include "experiment/config/dvae_source.h"
#include "experiment/config/model_files.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// These parts of a checkpoint of the dvae stage; nothing if the path does not exist or belongs to
/// the dalle stage, or if the run has checkpoints of the dalle stage.
std::optional<CheckpointContent> read_dvae(const fs::path& given,
                                           const std::set<std::string>& parts) {
  const fs::path path = followed(given);
  if (!fs::is_directory(path)) return std::nullopt;
  for (const fs::path& folder : {RunPaths(path).checkpoints("dalle"), path / "dalle"})
    if (!checkpoints_in(folder).empty()) return std::nullopt;
  const std::vector<fs::path> checkpoints = dvae_checkpoints(path, DvaeCheckpoint::kLast);
  if (checkpoints.empty()) return std::nullopt;
  return read_dvae_checkpoint(checkpoints, parts);
}

}  // namespace

EvaluatedModel load_evaluated_model(const fs::path& path, c10::Device device) {
  if (const auto content = read_dvae(path, {kEmaTensors, kConfigFile})) {
    const ExperimentConfig config = config_of(*content);
    DiscreteVae vae(config.dvae.model, Precision::kFloat32);
    load_weights(*vae, content->tensors.at(kEmaTensors),
                 tensors_file(content->path, kEmaTensors).string());
    vae->to(device);
    return {.checkpoint = content->path,
            .hash = manifest_hash(content->path),
            .step = content->step,
            .config = config,
            .vae = vae,
            .dalle = std::nullopt};
  }
  TrainedDalle dalle = load_trained_dalle(path, device, Precision::kFloat32);
  EvaluatedModel model{.checkpoint = dalle.checkpoint,
                       .hash = dalle.hash,
                       .step = dalle.step,
                       .config = dalle.config,
                       .vae = dalle.vae,
                       .dalle = std::nullopt};
  model.dalle = std::move(dalle);
  return model;
}

ExperimentConfig config_of_evaluated_model(const fs::path& path) {
  if (const auto content = read_dvae(path, {kConfigFile})) return config_of(*content);
  return config_of_trained_dalle(path);
}

void set_sampling(EvaluatedModel& model, const SamplingConfig& sampling) {
  static_cast<SamplingConfig&>(model.config.sample) = sampling;
  if (model.dalle) static_cast<SamplingConfig&>(model.dalle->config.sample) = sampling;
}

fs::path run_of_model(const fs::path& path) {
  fs::path folder = without_trailing_slash(fs::absolute(path).lexically_normal());
  const auto is_stage = [](const fs::path& p) {
    return p.filename() == "dvae" || p.filename() == "dalle";
  };
  if (is_stage(folder.parent_path())) folder = folder.parent_path();
  if (is_stage(folder)) folder = folder.parent_path();
  if (folder.filename() == "checkpoints") return folder.parent_path();
  return path.filename().empty() ? path.parent_path() : path;
}

}  // namespace dalle
