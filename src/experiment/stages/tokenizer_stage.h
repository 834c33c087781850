#pragma once

#include <optional>
#include <string>

#include "data/datasets.h"
#include "data/text/tokenizer_config.h"
#include "train/run_folder.h"

namespace dalle {

/// Writes the tokenizer into the run folder, unless the folder has one already: `given`, or else
/// the existing model that the config names, or else one trained on the captions of `dataset`. On
/// one rank only.
/// @param given  the bytes of a tokenizer: see initial_tokenizer()
/// @throws dalle::Error if the captions cannot be read or are too few, if the model is invalid, or
///         if the folder has a tokenizer that differs from `given`
void run_tokenizer_stage(const TokenizerConfig& config, const Dataset& dataset, const RunPaths& run,
                         const std::optional<std::string>& given);

}  // namespace dalle
