#pragma once

#include <filesystem>

namespace dalle {

/// Adds what a run's numbers depend on besides its config to the JSON list in `path`, unless it
/// equals the last entry there: dalle's version and git revision, compiler, LibTorch, CUDA, the
/// CPU's name and the number of threads. So the file has an entry for each change of machine or
/// program during a run.
/// @throws dalle::Error if `path` cannot be written, or holds anything else
void record_versions(const std::filesystem::path& path);

}  // namespace dalle
