#pragma once

#include <filesystem>

#include "checkpoint/checkpoint.h"

namespace dalle {

/// The folder that --out names, without a slash at its end.
/// @throws dalle::Error if it exists
std::filesystem::path checked_out(const std::filesystem::path& out);

/// Writes a checkpoint into a new folder, which appears only when it is complete.
/// @throws dalle::Error naming the path that cannot be written and the reason
void write_new_checkpoint(const std::filesystem::path& out, const CheckpointContent& content);

}  // namespace dalle
