#pragma once

#include <optional>
#include <string>

#include "command_line.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/image_prompt.h"

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

/// An image prompt, ready for generation.
struct Prompt {
  ImagePrompt parts;
  nlohmann::ordered_json description = {};  ///< for ImageRequest::image_prompt
};

/// Reads the image, and the mask if there is one. Logs how many codes are kept, and if the model
/// cannot see some of them when it generates others.
///
/// @throws dalle::Error naming the file or option: it cannot be read, keeps nothing or, with
///         `strict`, keeps codes that the model cannot see
Prompt load_prompt(const PromptOptions& options, const TrainedDalle& dalle);

}  // namespace dalle
