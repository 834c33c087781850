#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "tensor/named_tensors.h"

namespace dalle {

/// What a checkpoint holds: all that is needed to resume, or to sample; no other file is needed.
struct CheckpointContent {
  int64_t step = 0;                             ///< training steps done
  std::map<std::string, NamedTensors> tensors;  ///< "weights" is weights.safetensors
  std::map<std::string, std::string> files;     ///< "config.yaml" and its bytes
  std::filesystem::path path = {};              ///< where it was read from; not saved
};

/// Reads a checkpoint: a folder of files whose sizes and SHA-256 sums its manifest.json lists, with
/// a sum of the manifest itself. Every byte that is returned has been verified. It holds no
/// absolute path, so a copy elsewhere is equally valid.
/// @param only   names of `tensors` and `files` to read; empty: all. The others are not opened
/// @param later  names of `tensors` that are verified, but left to read_tensors()
/// @throws dalle::Error naming the file that is missing, truncated, corrupt or of another format
///         version
CheckpointContent read_checkpoint(const std::filesystem::path& checkpoint,
                                  const std::set<std::string>& only = {},
                                  const std::set<std::string>& later = {});

/// Reads one of the `tensors` of a checkpoint that read_checkpoint() has verified.
NamedTensors read_tensors(const std::filesystem::path& checkpoint, const std::string& name);

/// Compares every file of a checkpoint with its manifest.
/// @throws dalle::Error as read_checkpoint() does
void verify_checkpoint(const std::filesystem::path& checkpoint);

/// Files by name, with their sizes and sums.
using FileDigests = std::map<std::string, FileDigest>;

/// Called with a short description before each change to the disk, for tests that stop there.
using DiskObserver = std::function<void(std::string_view change)>;

/// Writes a part of a checkpoint's files into a folder, flushed and read back.
/// @throws dalle::Error naming the file that cannot be written, or reads back differently
FileDigests write_checkpoint_files(const std::filesystem::path& folder,
                                   const CheckpointContent& part,
                                   const DiskObserver& before_change = {});

/// The checkpoints in `folder`, newest first; not verified. Empty if there is no such folder.
std::vector<std::filesystem::path> checkpoints_in(const std::filesystem::path& folder);

/// The one with the lowest score among the checkpoints that were saved with one.
std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& folder);

/// Reads the first of the checkpoints that verifies, and warns about each one before it.
/// @return nothing if none does
std::optional<CheckpointContent> read_first_valid(
    std::span<const std::filesystem::path> checkpoints, const std::set<std::string>& only = {},
    const std::set<std::string>& later = {});

/// Reads the newest checkpoint of `folder` that verifies, and warns about each newer one that does
/// not.
/// @return nothing if there is none at all
/// @throws dalle::Error if there are some but none verifies: starting over would lose them silently
std::optional<CheckpointContent> read_newest_checkpoint(const std::filesystem::path& folder,
                                                        const std::set<std::string>& only = {},
                                                        const std::set<std::string>& later = {});

/// The checkpoints of a training run: FOLDER/step-00001200/{weights.safetensors, ...,
/// manifest.json}, with the names of the newest and of the best in FOLDER/latest and FOLDER/best,
/// for people and scripts (nothing here relies on them).
///
/// A process killed at any moment, or a disk that fills up, leaves every earlier checkpoint intact
/// and never a half-written one under a checkpoint's name: files are written into a staging folder
/// (.part), flushed, read back, and the folder is renamed.
class CheckpointStore {
 public:
  /// Creates the folder if need be, and cleans up after a process that was killed while saving.
  /// One process at a time may have a store on a folder (see RunFolder's lock).
  /// @param keep_last  how many of the newest checkpoints stay, at least 1; the best stays as well
  CheckpointStore(std::filesystem::path folder, int64_t keep_last, DiskObserver before_change = {});

  /// Saves a checkpoint that this process alone writes: stage(), write_checkpoint_files(),
  /// commit(), clean_up().
  /// @param score  lower is better; nothing, or not a finite number: never the best
  /// @throws dalle::Error naming the file and the reason (disk full); earlier checkpoints stay
  ///         intact
  void save(const CheckpointContent& content, std::optional<double> score = std::nullopt);

  /// Creates an empty staging folder for the files of a checkpoint, which several processes may
  /// write. If an error occurs from here to commit(), call abandon().
  /// @return the folder
  std::filesystem::path stage(int64_t step);

  /// Turns the staged files into a checkpoint, replacing one of the same step.
  /// @param files  all that were written, by any process
  /// @throws dalle::Error naming a file that is not there, or that cannot be written
  void commit(int64_t step, const FileDigests& files, std::optional<double> score);

  /// Removes the staging folder and throws the error to show to the user.
  [[noreturn]] void abandon(int64_t step, const std::exception& reason);

  /// After commit(): updates `latest` and `best`, and removes old checkpoints. Also removes corrupt
  /// ones of later steps that a fallback to an earlier one left behind.
  void clean_up(int64_t saved_step);

 private:
  void recover();
  std::filesystem::path path_of(int64_t step) const;
  void write_manifest(const std::filesystem::path& staging, int64_t step, const FileDigests& files,
                      std::optional<double> score);
  void point(const std::string& pointer, const std::filesystem::path& checkpoint);

  std::filesystem::path folder_;
  int64_t keep_last_;
  DiskObserver before_change_;
};

}  // namespace dalle
