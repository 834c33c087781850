#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "data/image/rgb_image.h"
#include "data/text/tokenizer.h"
#include "experiment/experiment_config.h"
#include "model/clip_model.h"
#include "tensor/precision.h"

namespace dalle {

/// A contrastive model that compares images with captions, read from one checkpoint.
struct TrainedClip {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< of the checkpoint's manifest: names these exact weights
  int64_t step = 0;
  ExperimentConfig config;
  Tokenizer tokenizer;
  ClipModel model;
};

/// Reads a checkpoint of the stage clip; no file outside its folder is needed.
///
/// @param path       as for load_trained_dalle(), of the stage clip
/// @param precision  likewise
/// @throws dalle::Error naming the path and what was expected
TrainedClip load_trained_clip(const std::filesystem::path& path, c10::Device device,
                              std::optional<Precision> precision = std::nullopt);

/// The hash of the model that load_trained_clip() would read, without reading its weights.
/// @throws dalle::Error as it does
std::string trained_clip_hash(const std::filesystem::path& path);

/// Warns if the caption is too long.
/// @return  [E] of unit length
/// @throws dalle::Error if the caption is blank or not UTF-8
at::Tensor embed_caption(TrainedClip& clip, const std::string& caption);

/// Larger images are scaled down to the size that the model reads. Images are embedded one by one,
/// because rounding may depend on the batch size.
/// @return  [E] of unit length
/// @throws dalle::Error if the image is smaller than that size
at::Tensor embed_image(TrainedClip& clip, const RgbImage& image);

}  // namespace dalle
