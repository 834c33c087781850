#pragma once

#include <optional>
#include <string>

#include "experiment/config/experiment_config.h"
#include "experiment/config/stages.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {

/// Copies into the run folder, verified, what the stages need of the checkpoints that `config.from`
/// names, so that the run resumes without them. What the folder has is not copied again. On rank 0
/// only, before any stage runs.
///
/// RUN/from/STAGE/step-N is a checkpoint without an optimizer's state; its file source.json has the
/// original's folder and the SHA-256 of its manifest.
///
/// @throws dalle::Error naming the file that is missing or corrupt, or the checkpoint that has
///         changed since the config was loaded
void copy_weight_sources(const ExperimentConfig& config, const RunPaths& run);

/// Checks, before a run starts over, that it can copy again what `config.from` names.
/// @param run  what is there so far; its copies will not be those of the new run
/// @throws dalle::Error naming a source that is gone or has been replaced, and the copy of it
void check_weight_sources(const ExperimentConfig& config, const RunPaths& run);

/// The weights with which the model of a stage begins, from those copies. Those of the dvae stage
/// are also the frozen dVAE's.
/// @return nothing if it begins with random ones
/// @throws dalle::Error if the copy is missing or corrupt
std::optional<NamedTensors> initial_weights(const ExperimentConfig& config, const RunPaths& run,
                                            Stage stage);

/// The bytes of the tokenizer that the run takes over; nothing if it trains one, or if it has one
/// and the copies have been removed.
/// @throws dalle::Error if the copy is missing or corrupt
std::optional<std::string> initial_tokenizer(const ExperimentConfig& config, const RunPaths& run);

}  // namespace dalle
