#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>

namespace dalle {

/// Counts and lists the samples that could not be used, each once, and ends the run when they are
/// too many.
class SkippedSamples {
 public:
  /// @param path          JSON lines `{"key": ..., "reason": ...}` are appended here; keys already
  /// in the file
  ///                      (a resumed run) are known and not written twice. Empty: nothing is
  ///                      written
  /// @param dataset_size  what the bad samples are a fraction of
  /// @throws dalle::Error if the file cannot be read or written
  SkippedSamples(std::filesystem::path path, int64_t dataset_size, double max_bad_fraction);

  /// Thread-safe.
  /// @throws dalle::Error naming the count, the latest sample and the file once more than
  /// max_bad_fraction of the
  ///         data set is bad
  void add(const std::string& key, const std::string& reason);

  int64_t count() const;

 private:
  std::filesystem::path path_;
  int64_t dataset_size_;
  double max_bad_fraction_;
  mutable std::mutex mutex_;
  std::set<std::string> keys_;
};

}  // namespace dalle
