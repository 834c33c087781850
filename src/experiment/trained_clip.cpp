#include "experiment/trained_clip.h"

#include <utility>
#include <vector>

#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "data/batch.h"
#include "data/image/image.h"
#include "experiment/model_files.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// @param parts  of the checkpoint to read
CheckpointContent read_clip(const fs::path& given, const std::set<std::string>& parts) {
  const fs::path path = followed(given);
  if (!fs::exists(path)) throw Error("{}: no such reranker", path.string());
  if (fs::exists(path / Manifest::kFileName)) {
    if (const auto stage = stage_of(path); stage && *stage != Stage::kClip)
      throw Error("{}: found a checkpoint of the stage {}, expected one of the stage clip",
                  path.string(), to_string(*stage));
    return read_checkpoint(path, parts);
  }
  for (const fs::path& folder : folders_of_stage(path, Stage::kClip)) {
    const std::vector<fs::path> checkpoints = checkpoints_in(folder);
    if (checkpoints.empty() || stage_of(checkpoints.front()).value_or(Stage::kClip) != Stage::kClip)
      continue;
    return *read_newest_checkpoint(folder, parts);
  }
  throw Error(
      "{}: holds no checkpoint of the stage clip; add a section clip to the config and train it "
      "with dalle-train --stage clip",
      path.string());
}

std::string hash_of(const CheckpointContent& content) {
  return sha256_of_file(content.path / Manifest::kFileName);
}

}  // namespace

std::string trained_clip_hash(const fs::path& path) {
  return hash_of(read_clip(path, {kConfigFile}));
}

TrainedClip load_trained_clip(const fs::path& path, c10::Device device,
                              std::optional<Precision> precision) {
  const CheckpointContent content = read_clip(path, {kEmaTensors, kConfigFile, kTokenizerFile});
  const ExperimentConfig config = config_of(content);
  if (!config.clip)
    throw Error("{}: its config has no section clip", (content.path / kConfigFile).string());
  Tokenizer tokenizer(content.files.at(kTokenizerFile));
  ClipModel model(config.clip->model, config.data.image_size, tokenizer.vocab_size(),
                  precision.value_or(sampling_precision(config.clip->train.precision, device)));
  load_weights(*model, content.tensors.at(kEmaTensors),
               tensors_file(content.path, kEmaTensors).string());
  model->to(device);
  return {.checkpoint = content.path,
          .hash = hash_of(content),
          .step = content.step,
          .config = config,
          .tokenizer = std::move(tokenizer),
          .model = model};
}

at::Tensor embed_caption(TrainedClip& clip, const std::string& caption) {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> tokens = clip.tokenizer.encode(caption);
  if (tokens.empty()) throw Error("caption {:?}: empty, expected words", caption);
  const int64_t longest = clip.model->config().max_caption_tokens();
  if (tokens.size() > static_cast<size_t>(longest))
    log_warning("caption {:?}: has {} tokens; the reranker reads only the first {}", caption,
                tokens.size(), longest);
  const at::Tensor padded = pad_caption(tokens, longest).unsqueeze(0);
  return clip.model->embed_captions(padded.to(clip.model->parameters().front().device()))[0];
}

at::Tensor embed_image(TrainedClip& clip, const RgbImage& image) {
  const torch::NoGradGuard no_grad;
  SeedStream unused(0);
  const RgbImage scaled = crop_image(image, clip.config.data.image_size, CropKind::kCenter, unused);
  const at::Tensor pixels = image_to_tensor(scaled)
                                .unsqueeze(0)
                                .to(clip.model->parameters().front().device())
                                .to(torch::kFloat32)
                                .div_(255);
  return clip.model->embed_images(pixels)[0];
}

}  // namespace dalle
