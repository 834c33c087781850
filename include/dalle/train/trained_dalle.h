#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "dalle/data/tokenizer.h"
#include "dalle/model/dalle_model.h"
#include "dalle/model/discrete_vae.h"
#include "dalle/sample/draw_pictures.h"
#include "dalle/sample/sampling_config.h"
#include "dalle/train/experiment_config.h"

namespace dalle {

/// Everything that turns a caption into pictures, read from one checkpoint.
struct TrainedDalle {
  std::filesystem::path checkpoint;  ///< the folder it was read from
  std::string hash;                  ///< of the checkpoint's manifest: names these exact weights
  int64_t step = 0;
  ExperimentConfig config;
  Tokenizer tokenizer;
  DiscreteVae vae;
  DalleModel model;
};

/// Reads a DALL-E checkpoint; nothing outside its folder is needed.
///
/// @param path  a checkpoint folder, or the file `latest` or `best` that names one; or a run
/// folder,
///              its folder `checkpoints` or `checkpoints/dalle`, of which the newest checkpoint
///              that is valid is taken
/// @throws dalle::Error naming the file and, for tensors, each one that is missing, left over or of
/// another shape
TrainedDalle load_trained_dalle(const std::filesystem::path& path, c10::Device device);

/// draw_pictures() of a caption as it is written. Warns, with image 0, of a caption that is too
/// long.
/// @throws dalle::Error if the caption is not UTF-8
std::vector<Picture> draw_pictures(const TrainedDalle& dalle, const std::string& caption,
                                   const SamplingConfig& sampling, const GenerateOptions& options,
                                   const GenerateProgress& progress = {});

/// The run folder under `runs` whose DALL-E was finished last, by the times that the runs recorded;
/// of copies, which have one time, the first by name.
/// @throws dalle::Error if there is none, naming unfinished ones
std::filesystem::path newest_finished_run(const std::filesystem::path& runs);

}  // namespace dalle
