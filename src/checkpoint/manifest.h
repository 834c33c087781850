#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/files.h"

namespace dalle {

/// The table of contents of a checkpoint, kept in its manifest.json.
struct Manifest {
  static constexpr const char* kFileName = "manifest.json";
  static constexpr int64_t kFormatVersion = 1;

  int64_t step = 0;
  std::optional<double> score;              ///< lower is better
  std::map<std::string, FileDigest> files;  ///< by name; all are directly in the folder
};

/// The manifest as JSON, with the SHA-256 of its own content.
std::string format_manifest(const Manifest& manifest);

/// Whether a path is the folder of a checkpoint: whether it has a manifest, intact or not.
bool is_checkpoint(const std::filesystem::path& path);

/// The SHA-256 of the manifest of a checkpoint, which names its exact content.
/// @throws dalle::Error if it cannot be read
std::string manifest_hash(const std::filesystem::path& checkpoint);

/// Reads the manifest of a checkpoint and verifies it, but not the files that it lists.
/// @throws dalle::Error naming the file if it is missing, corrupt or of another format version
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// @throws dalle::Error if file `name` of the checkpoint is missing or differs from the manifest
void verify_file(const std::filesystem::path& checkpoint, const Manifest& manifest,
                 const std::string& name);

}  // namespace dalle
