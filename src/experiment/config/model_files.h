#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string_view>

#include <c10/core/Device.h>

#include "checkpoint/checkpoint.h"
#include "experiment/config/experiment_config.h"
#include "experiment/config/stages.h"
#include "tensor/precision.h"

namespace dalle {

/// The checkpoint that a training's file `latest` or `best` names; other paths as they are.
/// @throws dalle::Error if that checkpoint is not next to the file
std::filesystem::path followed(const std::filesystem::path& path);

/// followed(), of a path that must be the folder of a run or of a checkpoint.
/// @param expected   completes "no such ..."
/// @param for_files  is added to the error if it is a file
/// @throws dalle::Error if it is not a folder
std::filesystem::path existing_folder(const std::filesystem::path& path, std::string_view expected,
                                      std::string_view for_files = "");

/// Where the checkpoints of a stage are if `path` is a run, its folder of checkpoints, or the
/// folder of the stage.
std::array<std::filesystem::path, 3> folders_of_stage(const std::filesystem::path& path,
                                                      Stage stage);

/// The first of them that has checkpoints of the stage; nothing if none has.
std::optional<std::filesystem::path> find_stage_folder(const std::filesystem::path& path,
                                                       Stage stage);

/// The folder that holds the contrastive model of a checkpoint's run, if there is one: `clip` next
/// to the folder that holds the checkpoint.
std::filesystem::path clip_folder(const std::filesystem::path& checkpoint);

/// The stage that a checkpoint belongs to, by the files that its manifest lists; nothing if the
/// manifest is not intact: reading the checkpoint says what is wrong.
std::optional<Stage> stage_of(const std::filesystem::path& checkpoint);

/// The config with which a checkpoint was trained.
/// @throws dalle::Error if this build cannot read it
ExperimentConfig config_of(const CheckpointContent& content);

/// The policy of the training, but float32 where bfloat16 is emulated: the weights are float32 in
/// the checkpoint, and a model that was trained on a GPU should also work on a laptop.
Precision sampling_precision(Precision trained, c10::Device device);

}  // namespace dalle
