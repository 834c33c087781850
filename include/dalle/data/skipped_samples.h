#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace dalle {

/// Counts and lists the samples that could not be used, each once, and ends the run when they are
/// too many.
///
/// A resumed run goes on where the file stops. Each line is handed to the kernel as it is added, so
/// a killed process loses none; the part of a line that a crash of the machine may leave behind is
/// cut off at the next start.
///
/// Ranks that train together keep a list each, in one folder, and what counts is how many samples
/// are in any of them: each rank meets a part of the bad ones only. A rank reads the lists of the
/// others once its own is as long as its share of what is allowed.
class SkippedSamples {
 public:
  /// @param path              JSON lines `{"key": ..., "reason": ...}` are appended here; keys
  ///                          already in the file (a resumed run) are known and not written twice.
  ///                          Empty: nothing is written
  /// @param dataset_size      what the bad samples are a fraction of
  /// @param max_bad_fraction  in [0, 1]; the run ends when more than this part of them is bad
  /// @param other_ranks       files of the other ranks, of which any may not exist yet
  /// @throws dalle::Error if the file cannot be read or written, or a line is none of ours
  SkippedSamples(std::filesystem::path path, int64_t dataset_size, double max_bad_fraction,
                 std::vector<std::filesystem::path> other_ranks = {});

  /// Records a bad sample; one that is known is not counted again. Thread-safe.
  ///
  /// Whether a run ends depends on the set of bad samples alone, not on their order; which of the
  /// samples that are being made at that moment carries the error depends on the workers' timing.
  ///
  /// @throws dalle::Error naming the count, this sample and the file if now more than
  ///         max_bad_fraction of the data set is known to be bad, and if the file cannot be written
  void add(const std::string& key, const std::string& reason);

  /// Samples in the list of this rank.
  int64_t count() const;

 private:
  /// The list of another rank, as far as it has been read.
  struct OtherList {
    std::filesystem::path path;
    size_t read_bytes = 0;
  };

  void read_known_keys();
  void read_other_lists();

  std::filesystem::path path_;
  int64_t dataset_size_;
  double max_bad_fraction_;
  mutable std::mutex mutex_;
  std::set<std::string> keys_;
  std::vector<OtherList> other_lists_;
  std::set<std::string> keys_of_others_;  ///< that are not in keys_
  int64_t added_ = 0;                     ///< by this process
  std::ofstream file_;
};

}  // namespace dalle
