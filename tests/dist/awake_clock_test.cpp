#include "dist/awake_clock.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::chrono_literals;

TEST(AwakeClock, RunsWhileItIsRead) {
  AwakeClock clock(1h);
  const auto begin = clock.now();
  std::this_thread::sleep_for(20ms);
  EXPECT_GE(clock.now() - begin, 20ms);
}

TEST(AwakeClock, SkipsTimeInWhichItWasNotRead) {
  AwakeClock clock(10ms);
  const auto begin = clock.now();
  for (int stop = 0; stop < 3; ++stop) {
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(clock.now(), begin);
  }
}

}  // namespace
}  // namespace dalle
