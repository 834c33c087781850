#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace dalle {

/// Counts and lists invalid samples, each once, and ends the run if there are too many.
///
/// A resumed run appends to the existing file. Each line is written immediately, so a killed
/// process loses none. An incomplete last line, which a crash of the machine may leave, is removed
/// at the next start.
///
/// In distributed training, each rank encounters only some of the invalid samples and keeps its own
/// list. The limit applies to the union of the lists: a rank reads the lists of the others once its
/// own exceeds its share of the limit.
class SkippedSamples {
 public:
  /// @param path                  the list, in lines of JSON: `{"key": ..., "reason": ...}`; if
  ///                              empty, nothing is written
  /// @param dataset_size          total number of samples
  /// @param max_invalid_fraction  in [0, 1]; more invalid samples than this end the run
  /// @param other_ranks           the lists of the other ranks, which need not exist yet
  /// @throws dalle::Error if the file cannot be read or written, or has lines in another format
  SkippedSamples(std::filesystem::path path, int64_t dataset_size, double max_invalid_fraction,
                 std::vector<std::filesystem::path> other_ranks = {});

  /// Records an invalid sample, unless it is already listed. Thread-safe.
  ///
  /// Whether a run ends depends only on the set of invalid samples, not on their order. Which call
  /// throws depends on the timing of the workers.
  ///
  /// @throws dalle::Error naming the count, this sample and the file if more than
  ///         max_invalid_fraction of the data set is invalid, or if the file cannot be written
  void add(const std::string& key, const std::string& reason);

 private:
  /// The list of another rank and how much of it has been read.
  struct OtherList {
    std::filesystem::path path;
    size_t read_bytes = 0;
  };

  void read_known_keys();
  void read_other_lists();

  std::filesystem::path path_;
  int64_t dataset_size_;
  double max_invalid_fraction_;
  std::mutex mutex_;
  std::set<std::string> keys_;
  std::vector<OtherList> other_lists_;
  std::set<std::string> keys_of_others_;  ///< not including those in keys_
  int64_t added_ = 0;                     ///< by this process
  std::ofstream file_;
};

}  // namespace dalle
