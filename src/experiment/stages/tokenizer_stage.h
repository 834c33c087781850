#pragma once

#include <string>

#include "data/datasets.h"
#include "data/text/tokenizer_config.h"
#include "train/run_folder.h"

namespace dalle {

/// Trains the tokenizer on the captions of `dataset`, or copies the existing model that the config
/// names, into the run folder; unless the folder has one already. On one rank only.
/// @throws dalle::Error if the captions cannot be read or are too few, or the model is invalid
void run_tokenizer_stage(const TokenizerConfig& config, const Dataset& dataset,
                         const RunPaths& run);

/// Writes an existing model, byte for byte, into the run folder instead. On one rank only.
/// @throws dalle::Error if the folder has another tokenizer
void copy_tokenizer(const std::string& model, const RunPaths& run);

}  // namespace dalle
