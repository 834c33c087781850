#include "experiment/evaluation/evaluated_model.h"

#include <utility>

namespace dalle {

namespace fs = std::filesystem;

EvaluatedModel load_evaluated_model(const fs::path& path, c10::Device device) {
  if (const std::optional<TrainedDvae> dvae = load_trained_dvae(path, device))
    return {.checkpoint = dvae->checkpoint,
            .hash = dvae->hash,
            .step = dvae->step,
            .config = dvae->config,
            .vae = dvae->vae,
            .dalle = std::nullopt};
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
  if (const auto dvae = config_of_trained_dvae(path)) return *dvae;
  return config_of_trained_dalle(path);
}

void set_sampling(EvaluatedModel& model, const SamplingConfig& sampling) {
  static_cast<SamplingConfig&>(model.config.sample) = sampling;
  if (model.dalle) static_cast<SamplingConfig&>(model.dalle->config.sample) = sampling;
}

fs::path run_of_model(const fs::path& path) {
  fs::path folder = fs::absolute(path).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();  // a trailing slash
  const auto is_stage = [](const fs::path& p) {
    return p.filename() == "dvae" || p.filename() == "dalle";
  };
  if (is_stage(folder.parent_path())) folder = folder.parent_path();
  if (is_stage(folder)) folder = folder.parent_path();
  if (folder.filename() == "checkpoints") return folder.parent_path();
  return path.filename().empty() ? path.parent_path() : path;
}

}  // namespace dalle
