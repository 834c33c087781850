#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "dalle/core/files.h"
#include "dalle/model/model_io.h"

namespace dalle {

/// What a checkpoint holds: all that is needed to go on, or to sample, without anything beside it.
struct CheckpointContent {
  int64_t step = 0;                             ///< training steps done
  std::map<std::string, NamedTensors> tensors;  ///< "weights" is weights.safetensors
  std::map<std::string, std::string> files;     ///< "config.yaml" and its bytes
  std::filesystem::path path = {};              ///< where it was read from; not saved
};

/// Reads a checkpoint: a folder of files whose sizes and SHA-256 sums its manifest.json lists, with
/// a sum of the manifest itself. Every byte that is returned has been verified. Nothing in it says
/// where it lies, so a copy elsewhere is as good.
/// @param only   names of `tensors` and `files` to read; empty: all. The others are not looked at
/// @param later  names of `tensors` that are verified, but left to read_tensors()
/// @throws dalle::Error naming the file that is missing, truncated, changed or of another format
/// version
CheckpointContent read_checkpoint(const std::filesystem::path& checkpoint,
                                  const std::set<std::string>& only = {},
                                  const std::set<std::string>& later = {});

/// One of the `tensors` of a checkpoint that read_checkpoint() has verified.
NamedTensors read_tensors(const std::filesystem::path& checkpoint, const std::string& name);

/// Compares every file of a checkpoint with its manifest.
/// @throws dalle::Error as read_checkpoint() does
void verify_checkpoint(const std::filesystem::path& checkpoint);

/// Files by name, with their sizes and sums.
using FileDigests = std::map<std::string, FileDigest>;

/// What other processes add to a checkpoint that is being saved.
struct CheckpointShares {
  /// Called once they may write into `folder`.
  std::function<void(const std::filesystem::path& folder)> begin;
  /// Returns what they have written there and verified.
  std::function<FileDigests()> collect;
};

/// Called with a few words before each change of the disk, for tests that stop there.
using DiskObserver = std::function<void(std::string_view change)>;

/// Writes a part of a checkpoint's files into a folder, flushed and read back.
/// @throws dalle::Error naming the file that cannot be written, or does not read back
FileDigests write_checkpoint_files(const std::filesystem::path& folder,
                                   const CheckpointContent& part,
                                   const DiskObserver& before_change = {});

/// The checkpoints in `folder`, newest first; not verified. Empty if there is no such folder.
std::vector<std::filesystem::path> checkpoints_in(const std::filesystem::path& folder);

/// The one with the lowest score among the checkpoints that were saved with one.
std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& folder);

/// Reads the newest checkpoint of `folder` that verifies and warns of each newer one that does not.
/// @return nothing if there is none at all
/// @throws dalle::Error if there are some and none verifies: to begin anew in silence would lose
/// them
std::optional<CheckpointContent> read_newest_checkpoint(const std::filesystem::path& folder,
                                                        const std::set<std::string>& only = {},
                                                        const std::set<std::string>& later = {});

/// The checkpoints of a training: FOLDER/step-00001200/{weights.safetensors, ..., manifest.json},
/// with the names of the newest and of the best in FOLDER/latest and FOLDER/best, for people and
/// scripts (nothing here relies on them).
///
/// A process killed at any moment, or a disk that fills up, leaves every earlier checkpoint and
/// never a half-written one under a checkpoint's name: files are written into a folder aside
/// (.part), flushed, read back, and renamed.
class CheckpointStore {
 public:
  /// Creates the folder if need be, and tidies up after a process that was killed while saving.
  /// One process at a time may have a store on a folder (see RunFolder's lock).
  /// @param keep_last  how many of the newest checkpoints stay, at least 1; the best stays besides
  CheckpointStore(std::filesystem::path folder, int64_t keep_last, DiskObserver before_change = {});

  /// Saves a checkpoint, and removes old ones once it is safe. One of the same step is replaced;
  /// damaged ones of later steps, which a fallback to an earlier one left behind, are removed.
  /// @param score   lower is better; nothing or not a number: never the best
  /// @param others  who write a part of the files
  /// @throws dalle::Error naming the file and the reason (disk full); earlier checkpoints are then
  /// intact
  void save(const CheckpointContent& content, std::optional<double> score = std::nullopt,
            const CheckpointShares& others = {});

  /// read_newest_checkpoint() of this folder.
  std::optional<CheckpointContent> load_newest(const std::set<std::string>& later = {}) const;

  const std::filesystem::path& folder() const { return folder_; }

 private:
  void recover();
  void write_aside(const std::filesystem::path& aside, const CheckpointContent& content,
                   std::optional<double> score, const CheckpointShares& others);
  void put_in_place(const std::filesystem::path& aside, const std::filesystem::path& checkpoint);
  void point(const std::string& pointer, const std::filesystem::path& checkpoint);
  void remove_old(int64_t saved_step);

  std::filesystem::path folder_;
  int64_t keep_last_;
  DiskObserver before_change_;
};

}  // namespace dalle
