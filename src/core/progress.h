#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace dalle {

/// "indexing shards: 120 of 4000 (3%), 4 min left".
///
/// @param what   describes the work and its unit
/// @param done   completed units of work, including those of earlier runs
/// @param total  0 if unknown
/// @param begin  units completed by earlier runs, which `elapsed` does not include
std::string progress_text(const std::string& what, int64_t done, int64_t total, int64_t begin,
                          std::chrono::duration<double> elapsed);

/// When a Progress reports.
struct ProgressOptions {
  std::chrono::milliseconds show_after{3'000};        ///< shorter work is not reported
  std::chrono::milliseconds refresh_every{200};       ///< of the line on a terminal
  std::chrono::milliseconds first_log_after{10'000};  ///< elsewhere; later intervals grow
};

/// Reports the progress of long work and estimates the time left: on a terminal in a status line
/// below the log, elsewhere in log lines at least ten seconds apart. Work that takes a few seconds
/// is not reported.
///
/// Not thread-safe, and a process may have only one at a time.
class Progress {
 public:
  /// @param total  0 if unknown
  /// @param begin  units of work completed by earlier runs
  Progress(std::string what, int64_t total, int64_t begin = 0, const ProgressOptions& options = {});
  /// Removes the status line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Cheap enough to call for every unit of work.
  /// @param done  completed units, including those of earlier runs
  void update(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  int64_t total_;
  int64_t begin_;
  ProgressOptions options_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point next_;
  bool has_line_;
};

}  // namespace dalle
