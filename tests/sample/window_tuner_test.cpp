#include "sample/window_tuner.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

namespace dalle {
namespace {

/// Seconds and codes of a pass by its window.
struct Machine {
  std::function<double(int64_t)> seconds;
  std::function<int64_t(int64_t)> codes;
};

struct Outcome {
  double seconds = 0;
  int64_t codes = 0;
  int64_t window = 0;  ///< of most of the last passes
};

Outcome run(const Machine& machine, int64_t passes, int64_t largest = 16) {
  WindowTuner tuner;
  Outcome outcome;
  std::vector<int64_t> last;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t window = tuner.window();
    EXPECT_LE(window, largest);
    EXPECT_GE(window, 1);
    const double seconds = machine.seconds(window);
    const int64_t codes = machine.codes(window);
    tuner.record(seconds, codes, largest);
    outcome.seconds += seconds;
    outcome.codes += codes;
    if (pass >= passes / 2) last.push_back(window);
  }
  std::ranges::sort(last);
  outcome.window = last[last.size() / 2];
  return outcome;
}

TEST(WindowTuner, FindsTheFastestWindow) {
  const auto half_right = [](int64_t window) { return window / 2 + 1; };
  EXPECT_EQ(
      run({[](int64_t w) { return 1 + 0.01 * static_cast<double>(w); }, half_right}, 200).window,
      16);
  EXPECT_EQ(
      run({[](int64_t w) { return w <= 4 ? 1 : static_cast<double>(w); }, half_right}, 200).window,
      4);
  EXPECT_EQ(run({[](int64_t w) { return static_cast<double>(w); }, half_right}, 200).window, 1);
}

TEST(WindowTuner, LosesLittleWhereNoGuessIsRight) {
  const Machine machine{[](int64_t w) { return 1 + 0.4 * static_cast<double>(w - 1); },
                        [](int64_t) { return 1; }};
  for (const int64_t passes : {256, 1024}) {
    const Outcome outcome = run(machine, passes);
    EXPECT_LT(outcome.seconds, 1.1 * static_cast<double>(outcome.codes)) << passes;
  }
}

TEST(WindowTuner, FollowsAChange) {
  int64_t pass = 0;
  const Machine machine{[](int64_t) { return 1.0; },
                        [&pass](int64_t w) { return ++pass > 600 ? w : 1; }};
  EXPECT_EQ(run(machine, 2400).window, 16);
}

TEST(WindowTuner, StaysSequentialIfNothingElseFits) {
  EXPECT_EQ(run({[](int64_t) { return 1.0; }, [](int64_t w) { return w; }}, 100, 1).window, 1);
}

}  // namespace
}  // namespace dalle
