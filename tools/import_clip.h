#pragma once

#include <filesystem>
#include <optional>

#include "command_line.h"
#include "nn/activation.h"

namespace dalle {

/// What `dalle-import clip` was given.
struct ClipImport {
  std::filesystem::path weights;
  std::filesystem::path vocabulary, merges;  ///< empty: next to the weights
  std::filesystem::path out;
  std::optional<Activation> activation;  ///< none: not given
};

void add_clip_options(CLI::App& app, ClipImport& options);

/// Makes a checkpoint of a CLIP model that others trained.
/// @return  the tool's exit status
/// @throws dalle::Error naming the option, or the file and what is wrong with it
int import_clip(const ClipImport& options);

}  // namespace dalle
