#include "dalle/train/stop_signal.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(StopSignal, RemembersTheFirstSignal) {
  const StopSignal stop;
  EXPECT_FALSE(stop.requested());
  std::raise(SIGTERM);
  EXPECT_TRUE(stop.requested());
  EXPECT_EQ(stop.number(), SIGTERM);
}

TEST(StopSignal, StartsAfreshEachTime) {
  {
    const StopSignal stop;
    std::raise(SIGINT);
  }
  EXPECT_FALSE(StopSignal().requested());
}

int status_after(int signals) {
  const pid_t child = ::fork();
  if (child == 0) {
    const StopSignal stop;
    for (int i = 0; i < signals; ++i) std::raise(SIGINT);
    ::_exit(7);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StopSignal, TheSecondSignalEndsTheProcessAtOnce) {
  EXPECT_EQ(status_after(1), 7);
  EXPECT_EQ(status_after(2), 128 + SIGINT);
}

}  // namespace
}  // namespace dalle
