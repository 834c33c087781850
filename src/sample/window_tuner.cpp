#include "sample/window_tuner.h"

#include <algorithm>

namespace dalle {
namespace {

/// Passes of a block. In a trial of a wider window, the first pass has no guesses yet for its last
/// positions, so it is not measured.
constexpr int64_t kPasses = 8, kTrialPasses = 5;

/// The speedup that a trial must show, so that noise alone does not change the window.
constexpr double kGain = 1.1;

constexpr int64_t kMostFailures = 6;

}  // namespace

void WindowTuner::record(double seconds, int64_t codes, int64_t largest) {
  const bool warms_up = trial_ > best_ && passes_ == 0;
  ++passes_;
  if (!warms_up) seconds_ += seconds, codes_ += codes;
  if (passes_ < (trial_ > 0 ? kTrialPasses : kPasses)) return;
  finish_block(static_cast<double>(codes_) / std::max(seconds_, 1e-9), largest);
  passes_ = codes_ = 0;
  seconds_ = 0;
}

void WindowTuner::finish_block(double rate, int64_t largest) {
  if (trial_ == 0) {
    best_rate_ = rate;
    if (--waiting_ <= 0) start_trial(largest);
    return;
  }
  if (rate > kGain * best_rate_) {
    best_ = trial_;
    best_rate_ = rate;
    failures_ = 0;
    start_trial(largest);
    return;
  }
  trial_ = 0;
  wider_ = !wider_;
  failures_ = std::min(failures_ + 1, kMostFailures);
  waiting_ = int64_t{1} << failures_;
}

void WindowTuner::start_trial(int64_t largest) {
  if (best_ == 1) wider_ = true;
  if (2 * best_ > largest) wider_ = false;
  trial_ = wider_ ? 2 * best_ : best_ / 2;
  if (trial_ == 0) waiting_ = 1;  // no other window is possible now
}

}  // namespace dalle
