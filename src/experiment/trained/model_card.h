#pragma once

#include <string>

#include "experiment/trained/trained_dalle.h"
#include "train/run_folder.h"

namespace dalle {

/// A model card for the Hugging Face hub: Markdown with YAML front matter. It states the data, the
/// steps, the numbers of training's validation (the dVAE's at its best one, if
/// dalle.dvae_checkpoint is best) and of dalle-eval, and the config, with the names of files and
/// folders but not where they are. The license is left for the user to fill in.
///
/// @param run  whose metrics.jsonl and evaluation.json are read if they exist; the latter only if
///             it measured this checkpoint
/// @throws dalle::Error if one of them exists and cannot be read
std::string model_card(const TrainedDalle& dalle, const RunPaths& run);

}  // namespace dalle
