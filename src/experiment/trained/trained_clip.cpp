#include "experiment/trained/trained_clip.h"

#include <cmath>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/log.h"
#include "data/batch.h"
#include "data/image/bicubic.h"
#include "data/image/image.h"
#include "data/text/clip_tokenizer.h"
#include "data/text/tokenizer.h"
#include "experiment/config/model_files.h"
#include "tensor/device_of.h"
#include "tensor/named_tensors.h"

namespace dalle {
namespace {

namespace fs = std::filesystem;

/// The parts of a checkpoint to read. An imported model has another tokenizer.
std::set<std::string> parts_in(const fs::path& checkpoint, std::set<std::string> parts) {
  const bool is_imported = read_manifest(checkpoint).files.contains(kClipVocabularyFile);
  if (is_imported && parts.erase(kTokenizerFile) > 0)
    for (const char* file : {kClipVocabularyFile, kClipMergesFile}) parts.insert(file);
  return parts;
}

/// @param parts  of the checkpoint to read
CheckpointContent read_clip(const fs::path& given, const std::set<std::string>& parts) {
  const fs::path path = existing_folder(given, "reranker");
  if (is_checkpoint(path)) {
    if (const auto stage = stage_of(path); stage && *stage != Stage::kClip)
      throw Error("{}: found a checkpoint of the {} stage, expected one of the clip stage",
                  path.string(), to_string(*stage));
    return read_checkpoint(path, parts_in(path, parts));
  }
  if (const auto folder = find_stage_folder(path, Stage::kClip))
    return *read_newest_checkpoint(*folder, parts);
  throw Error(
      "{}: holds no checkpoint of the clip stage; add a clip section to the config and train it "
      "with dalle-train --stage clip",
      path.string());
}

}  // namespace

std::string trained_clip_hash(const fs::path& path) {
  return manifest_hash(read_clip(path, {kConfigFile}).path);
}

TrainedClip load_trained_clip(const fs::path& path, c10::Device device,
                              std::optional<Precision> precision) {
  const CheckpointContent content = read_clip(path, {kEmaTensors, kConfigFile, kTokenizerFile});
  const ExperimentConfig config = config_of(content);
  if (!config.clip)
    throw Error("{}: its config has no clip section", (content.path / kConfigFile).string());
  const auto& files = content.files;
  const bool is_imported = files.contains(kClipVocabularyFile);
  std::function<std::vector<int64_t>(std::string_view)> encode;
  int64_t vocab_size = 0;
  const auto use = [&]<class T>(T tokenizer) {
    vocab_size = tokenizer.vocab_size();
    encode = [shared = std::make_shared<const T>(std::move(tokenizer))](std::string_view caption) {
      return shared->encode(caption);
    };
  };
  if (is_imported)
    use(ClipTokenizer(files.at(kClipVocabularyFile), files.at(kClipMergesFile)));
  else
    use(Tokenizer(files.at(kTokenizerFile)));
  ClipModel model(config.clip->model, config.data.image_size, vocab_size,
                  precision.value_or(sampling_precision(config.clip->train.precision, device)));
  load_weights(*model, content.tensors.at(kEmaTensors),
               tensors_file(content.path, kEmaTensors).string());
  model->to(device);
  return {.checkpoint = content.path,
          .hash = manifest_hash(content.path),
          .step = content.step,
          .config = config,
          .encode = encode,
          .scaling = is_imported ? ImageScaling::kBicubic : ImageScaling::kArea,
          .model = model};
}

void require_readable(const TrainedClip& clip, int64_t image_size, const fs::path& source) {
  const int64_t wanted = clip.config.data.image_size;
  if (clip.scaling == ImageScaling::kArea && wanted > image_size)
    throw Error("{}: reads images of {} x {} pixels, expected at most the {} x {} of {}",
                clip.checkpoint.string(), wanted, wanted, image_size, image_size, source.string());
}

at::Tensor embed_captions(TrainedClip& clip, std::span<const std::string> captions) {
  const torch::NoGradGuard no_grad;
  const int64_t longest = clip.model->config().max_caption_tokens();
  std::vector<at::Tensor> rows;
  for (const std::string& caption : captions) {
    const std::vector<int64_t> tokens = clip.encode(caption);
    if (tokens.empty()) throw Error("caption {:?}: empty, expected words", caption);
    if (tokens.size() > static_cast<size_t>(longest))
      log_warning("a caption has {} tokens; the contrastive model reads only the first {}",
                  tokens.size(), longest);
    rows.push_back(pad_caption(tokens, longest));
  }
  return clip.model->embed_captions(torch::stack(rows).to(device_of(*clip.model)));
}

at::Tensor embed_images(TrainedClip& clip, std::span<const RgbImage> images) {
  const torch::NoGradGuard no_grad;
  const int64_t size = clip.config.data.image_size;
  std::vector<at::Tensor> pixels;
  for (const RgbImage& image : images)
    pixels.push_back(image_to_tensor(clip.scaling == ImageScaling::kBicubic
                                         ? crop_bicubic(image, size)
                                         : center_crop(image, size)));
  return clip.model->embed_images(unit_images(torch::stack(pixels), device_of(*clip.model)));
}

FeatureSpace clip_space(TrainedClip clip) {
  const auto scaled = [](const at::Tensor& embeddings) {  // [B, E]
    return embeddings.cpu().mul(std::sqrt(static_cast<double>(embeddings.size(1))));
  };
  return {.name = "clip-" + clip.hash.substr(0, 12),
          .features =
              [clip, scaled](const at::Tensor& images) mutable {
                std::vector<RgbImage> list;
                for (const at::Tensor& image : images.cpu().unbind())
                  list.push_back(tensor_to_image(image));
                return scaled(embed_images(clip, list));
              },
          .of_captions =
              [clip, scaled](std::span<const std::string> captions) mutable {
                return scaled(embed_captions(clip, captions));
              },
          .hash = clip.hash};
}

}  // namespace dalle
