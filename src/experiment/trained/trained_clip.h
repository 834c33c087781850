#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "data/image/rgb_image.h"
#include "eval/feature_space.h"
#include "experiment/config/experiment_config.h"
#include "model/clip_model.h"
#include "tensor/precision.h"

namespace dalle {

/// How an image gets the size that a contrastive model reads: as in its training.
enum class ImageScaling {
  kArea,     ///< center_crop(), which only makes images smaller
  kBicubic,  ///< crop_bicubic(): imported models
};

/// A contrastive model that compares images with captions, read from one checkpoint: of the stage
/// clip, or imported.
struct TrainedClip {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< of the checkpoint's manifest: names these exact weights
  int64_t step = 0;
  ExperimentConfig config;
  /// The tokens of a caption.
  /// @throws dalle::Error if it is not UTF-8
  std::function<std::vector<int64_t>(std::string_view caption)> encode;
  ImageScaling scaling = ImageScaling::kArea;
  ClipModel model;
};

/// Reads a checkpoint of the clip stage, or one that dalle-import wrote; no file outside its folder
/// is needed.
///
/// @param path       as for load_trained_dalle(), of the clip stage
/// @param precision  likewise
/// @throws dalle::Error naming the path and what was expected
TrainedClip load_trained_clip(const std::filesystem::path& path, c10::Device device,
                              std::optional<Precision> precision = std::nullopt);

/// The hash of the model that load_trained_clip() would read, without reading its weights.
/// @throws dalle::Error as it does
std::string trained_clip_hash(const std::filesystem::path& path);

/// @param image_size  of the images to embed, in pixels
/// @param source      of these images, for the message
/// @throws dalle::Error if they are smaller than `clip.scaling` allows
void require_readable(const TrainedClip& clip, int64_t image_size,
                      const std::filesystem::path& source);

/// Warns of each caption that is too long.
/// @return  [B, E] of unit length, on the model's device
/// @throws dalle::Error if a caption is blank or not UTF-8
at::Tensor embed_captions(TrainedClip& clip, std::span<const std::string> captions);

/// Images get the size that the model reads. Rounding may depend on the number of images.
/// @return  [B, E] of unit length, on the model's device
/// @throws dalle::Error if an image is smaller than ImageScaling::kArea allows
at::Tensor embed_images(TrainedClip& clip, std::span<const RgbImage> images);

/// "clip-" and 12 digits of the hash: the embeddings, scaled so that the mean of their squares is
/// 1, of images as they are, and of captions.
FeatureSpace clip_space(TrainedClip clip);

}  // namespace dalle
