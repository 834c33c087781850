#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/files.h"

namespace dalle {

/// The paths in the folder of a run. Nothing is read or created.
class RunPaths {
 public:
  explicit RunPaths(std::filesystem::path root_folder, int64_t rank_number = 0)
      : root(std::move(root_folder)), rank(rank_number) {}

  std::filesystem::path root;
  int64_t rank;  ///< whose log and lists these are; everything else is rank 0's

  std::filesystem::path config() const { return root / "config.yaml"; }      ///< resolved
  std::filesystem::path versions() const { return root / "versions.json"; }  ///< see versions.h
  std::filesystem::path data() const { return root / "data.txt"; }  ///< which images, by name
  std::filesystem::path tokenizer() const { return root / "tokenizer.model"; }
  std::filesystem::path codes() const { return root / "codes.bin"; }        ///< see CodeCache
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }  ///< one line per report
  std::filesystem::path evaluation() const { return root / "evaluation.json"; }  ///< dalle-eval's
  std::filesystem::path log() const { return root / own("log", ".txt"); }        ///< the console's
  std::filesystem::path skipped() const {
    return root / own("skipped", ".jsonl");
  }  ///< invalid samples
  std::filesystem::path skipped_validation() const {
    return root / own("skipped_validation", ".jsonl");
  }
  std::filesystem::path events() const { return root / "tensorboard"; }  ///< one folder per stage
  std::filesystem::path samples() const { return root / "samples"; }     ///< images
  std::filesystem::path lock() const { return root / "run.lock"; }
  /// Copies of the checkpoints that initialize the run, if any (see initial_weights.h).
  std::filesystem::path from(std::string_view stage) const { return root / "from" / stage; }
  std::filesystem::path checkpoints(std::string_view stage) const {
    return root / "checkpoints" / stage;
  }

 private:
  std::string own(const std::string& stem, const std::string& extension) const {
    return stem + (rank == 0 ? "" : "_rank" + std::to_string(rank)) + extension;
  }
};

/// The folder of a run, held by this process alone until destroyed.
class RunFolder : public RunPaths {
 public:
  /// Opens the folder, or creates it, and takes its lock.
  /// @throws dalle::Error if another process holds it, if there is a file of that name, or if it
  ///         cannot be written
  explicit RunFolder(const std::filesystem::path& path);

 private:
  FileLock lock_;
};

/// Renames a run's folder to the first free name of PATH.old-1, PATH.old-2, ... If the path is a
/// symbolic link, the folder that it names is renamed, on its own disk, and an empty one takes its
/// place.
/// @return the new name; nothing if there was no such folder
/// @throws dalle::Error if a process holds the run, the folder is not a run's, or it cannot be
///         renamed
std::optional<std::filesystem::path> move_run_aside(const std::filesystem::path& path);

}  // namespace dalle
