#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "dist/process_group.h"

namespace dalle {

/// Saves checkpoints while training continues: on a thread of its own, one after another.
///
/// Several ranks share the work: each writes, hashes and reads back files of its own, and rank 0
/// makes them a checkpoint once all of them are there. All ranks call the same functions in the
/// same order; an error of one is the error of all that write. A group may have one writer per
/// folder in its lifetime: ranks identify a save by the folder's name and its number.
class CheckpointWriter {
 public:
  /// @param folder  see CheckpointStore
  /// @param group   must outlive it
  CheckpointWriter(std::filesystem::path folder, int64_t keep_last, ProcessGroup& group);

  /// Waits for a save in progress, but not for ranks that fail to do their part.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Whether this rank is the one that writes part `part` of `parts` of equal size.
  bool writes(int64_t part, int64_t parts) const;

  /// Begins to save, once the previous save has ended.
  /// @param own    what this rank writes; tensors on the host that no longer change
  /// @param parts  as in writes()
  /// @param score  see CheckpointStore::save(); rank 0's counts
  /// @throws dalle::Error of the previous save
  void begin(CheckpointContent own, int64_t parts, std::optional<double> score);

  /// Throws the error of a save that has failed by now.
  void check();

  /// Waits until the save in progress is on the disk.
  /// @throws dalle::Error if it could not be saved
  void finish();

 private:
  int64_t writer_of(int64_t part, int64_t parts) const;
  void save_with_others(const CheckpointContent& own, const std::vector<int64_t>& others,
                        std::optional<double> score, const std::string& key);
  void save_for_rank_zero(const CheckpointContent& own, const std::string& key);

  std::filesystem::path folder_;
  ProcessGroup& group_;
  std::optional<CheckpointStore> store_;   ///< rank 0's
  std::unique_ptr<StoreMailbox> mailbox_;  ///< the thread's
  int64_t saves_ = 0;
  int64_t step_ = 0;  ///< of the last save
  std::future<void> pending_;
};

}  // namespace dalle
