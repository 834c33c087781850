#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "data/text/tokenizer.h"
#include "experiment/config/experiment_config.h"
#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "tensor/precision.h"

namespace dalle {

/// Everything that turns a caption into images, read from one checkpoint.
struct TrainedDalle {
  std::filesystem::path checkpoint;  ///< its folder
  std::string hash;                  ///< of the checkpoint's manifest: names these exact weights
  int64_t step = 0;
  ExperimentConfig config;
  Tokenizer tokenizer;
  DiscreteVae vae;
  DalleModel model;
};

/// Reads a DALL-E checkpoint; no file outside its folder is needed.
///
/// @param path       a checkpoint folder, or the file `latest` or `best` that names one; or a run
///                   folder, its folder `checkpoints` or `checkpoints/dalle`, whose newest valid
///                   checkpoint is read
/// @param precision  nothing: that of the training or, where bfloat16 is emulated, float32
/// @throws dalle::Error naming the file and each tensor that is missing, unexpected or of the wrong
///         shape
TrainedDalle load_trained_dalle(const std::filesystem::path& path, c10::Device device,
                                std::optional<Precision> precision = std::nullopt);

/// The config of the model that load_trained_dalle() would read, without reading its weights.
/// @throws dalle::Error as it does
ExperimentConfig config_of_trained_dalle(const std::filesystem::path& path);

/// What to do about captions of which the model does not read all tokens.
enum class LongCaptions { kWarn, kAccept };

/// The tokens of a caption, for a CaptionImages.
/// @return  [text_length - 1] int64
/// @throws dalle::Error if the caption is blank or not UTF-8
at::Tensor caption_tokens(const TrainedDalle& dalle, const std::string& caption,
                          LongCaptions long_captions = LongCaptions::kWarn);

/// The run folder under `runs` whose DALL-E finished last, by the times that the runs recorded; of
/// copies, which have the same time, the first by name.
/// @throws dalle::Error if there is none, naming unfinished ones
std::filesystem::path newest_finished_run(const std::filesystem::path& runs);

}  // namespace dalle
