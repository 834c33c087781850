#pragma once

#include <filesystem>

#include "checkpoint/checkpoint.h"

namespace dalle {

/// A new folder next to another path, for files that are renamed to that path when they are
/// complete. What is left in it is removed at the end.
class StagingFolder {
 public:
  /// @throws dalle::Error naming the folder that cannot be created and the reason
  explicit StagingFolder(const std::filesystem::path& next_to);
  ~StagingFolder();
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Renames a complete folder to its final name.
/// @throws dalle::Error naming both if that is impossible
void move_into_place(const std::filesystem::path& folder, const std::filesystem::path& out);

/// The folder that --out names, without a slash at its end.
/// @throws dalle::Error if it exists
std::filesystem::path checked_out(const std::filesystem::path& out);

/// Writes a checkpoint into a new folder, which appears only when it is complete.
/// @throws dalle::Error naming the path that cannot be written and the reason
void write_new_checkpoint(const std::filesystem::path& out, const CheckpointContent& content);

}  // namespace dalle
