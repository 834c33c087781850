#pragma once

#include <cstdint>

namespace dalle {

/// Chooses the window of DecodeMode::kAuto by measuring codes per second. The cost of a wider pass
/// depends on the machine and the model, and the number of correct guesses depends on the model and
/// the image.
///
/// It begins with sequential decoding, tries twice the window and keeps it if it is clearly faster.
/// After a failed trial it waits and then tries the other direction. The wait doubles with each
/// failure in a row, up to a limit, so trials take little time even if guesses are never correct.
class WindowTuner {
 public:
  /// The window of the next pass: a power of two.
  int64_t window() const { return trial_ > 0 ? trial_ : best_; }

  /// Records a pass with this window.
  /// @param codes    codes that the pass confirmed, in all images
  /// @param largest  the largest window that may be tried
  void record(double seconds, int64_t codes, int64_t largest);

 private:
  void finish_block(double rate, int64_t largest);
  void start_trial(int64_t largest);

  int64_t best_ = 1;
  int64_t trial_ = 0;     ///< 0: none
  double best_rate_ = 0;  ///< codes per second, when best_ was last measured
  bool wider_ = true;     ///< direction of the next trial
  int64_t failures_ = 0;  ///< in a row, at most 6
  int64_t waiting_ = 2;   ///< blocks until the next trial; the first one runs with cold caches
  // This block of passes.
  int64_t passes_ = 0;
  int64_t codes_ = 0;
  double seconds_ = 0;
};

}  // namespace dalle
