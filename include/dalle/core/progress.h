#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace dalle {

/// "indexing shards: 120 of 4000 (3%), 4 min left".
///
/// @param what     the work and its unit, at the beginning of the line
/// @param done     units of work that are done
/// @param total    of so many; 0 where the number is unknown
/// @param begin    units that an earlier run did: `elapsed` went into the others
std::string progress_text(const std::string& what, int64_t done, int64_t total, int64_t begin,
                          std::chrono::duration<double> elapsed);

/// When a Progress writes.
struct ProgressOptions {
  std::chrono::milliseconds silent_for{3'000};        ///< nothing is said of shorter work
  std::chrono::milliseconds redraw_every{200};        ///< the line on a terminal
  std::chrono::milliseconds first_log_after{10'000};  ///< elsewhere; then ever less often
};

/// Tells the user how far a long piece of work is and how long it will still take: on a terminal in
/// one line that rewrites itself below the log, elsewhere in log lines at least ten seconds apart.
/// Work that takes a few seconds is not mentioned.
///
/// One thread at a time uses it, and a process has one at a time.
class Progress {
 public:
  /// @param total  0 where the number is unknown
  /// @param begin  units of work that an earlier run did
  Progress(std::string what, int64_t total, int64_t begin = 0, const ProgressOptions& options = {});
  /// Removes the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Cheap enough to be called for every unit of work.
  /// @param done  units that are done, those of earlier runs included
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
