#pragma once

#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "command_line.h"
#include "data/image/rgb_image.h"
#include "experiment/trained/trained_dalle.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// The options of dalle-sample that describe an image prompt.
struct PromptOptions {
  std::string image;
  std::optional<double> keep_rows;
  std::string keep;  ///< x,y,width,height
  std::string mask;
  std::optional<double> variation;
  bool paste_original = false;
  bool strict = false;

  bool names_what_to_keep() const {
    return keep_rows || !keep.empty() || !mask.empty() || variation;
  }
};

void add_prompt_options(CLI::App& app, PromptOptions& options);

/// What generation needs of an image prompt.
struct Prompt {
  RgbImage image;          ///< cropped and scaled
  at::Tensor kept_pixels;  ///< [S, S] bool
  at::Tensor forced;       ///< as in CaptionImages
  double variation = 0;
  nlohmann::ordered_json description = {};  ///< for ImageRequest::image_prompt
};

/// Reads the image, and the mask if there is one. Logs how many codes are kept, and if the model
/// cannot see some of them when it generates others.
///
/// @throws dalle::Error naming the file or option: it cannot be read, keeps nothing or, with
///         `strict`, keeps codes that the model cannot see
Prompt load_prompt(const PromptOptions& options, const TrainedDalle& dalle);

}  // namespace dalle
