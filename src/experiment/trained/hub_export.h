#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "experiment/trained/trained_dalle.h"
#include "tensor/named_tensors.h"
#include "train/run_folder.h"

namespace dalle {

/// The size above which the hub's tools divide weights, in bytes.
inline constexpr int64_t kHubShardBytes = 5'000'000'000;

/// Divides tensors, in their order, into files of at most `max_bytes`; a larger tensor has a file
/// of its own.
std::vector<NamedTensors> divide_into_shards(const NamedTensors& tensors, int64_t max_bytes);

/// Writes a model in the layout of the Hugging Face hub: config.json, the weights of transformer
/// and dVAE as safetensors, generation_config.json, tokenizer.model, tokenizer_config.json,
/// preprocessor_config.json and a model card, README.md. docs/export.md describes the files, and
/// tests/python/rebuild_logits.py computes with them.
///
/// @param dalle   on the CPU
/// @param run     whose metrics and evaluation are for the card; what it lacks is left out
/// @param folder  exists and is empty
/// @throws dalle::Error naming the file that cannot be written
void write_hub_files(const TrainedDalle& dalle, const RunPaths& run,
                     const std::filesystem::path& folder, int64_t max_shard_bytes);

}  // namespace dalle
