#pragma once

#include <cstdint>

namespace dalle {

/// Chooses the window of DecodeMode::kAuto by what it brings: codes per second, as measured. How
/// much a wider pass costs depends on the machine and the model, and how many guesses are right on
/// the model and the image.
///
/// It begins with sequential decoding, tries twice the window and keeps what is faster. After a
/// trial that is not, it tries the other direction later, and waits twice as long each time: where
/// guesses are never right, trials take a small part of the time.
class WindowTuner {
 public:
  /// Of the next pass: a power of two.
  int64_t window() const { return trial_ > 0 ? trial_ : best_; }

  /// Records a pass with this window.
  /// @param codes    that it confirmed, of all images
  /// @param largest  window that may be tried
  void record(double seconds, int64_t codes, int64_t largest);

 private:
  void finish_block(double rate, int64_t largest);
  void start_trial(int64_t largest);

  int64_t best_ = 1;
  int64_t trial_ = 0;     ///< 0: none
  double best_rate_ = 0;  ///< codes per second, when best_ was last measured
  bool wider_ = true;     ///< direction of the next trial
  int64_t failures_ = 0;  ///< trials since the latest success
  int64_t waiting_ = 2;   ///< blocks until the next trial; the first one runs with cold caches
  // This block of passes.
  int64_t passes_ = 0;
  int64_t codes_ = 0;
  double seconds_ = 0;
};

}  // namespace dalle
