#include "core/stop_signal.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <initializer_list>
#include <thread>

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

TEST(StopSignal, ForgetsTheSignalsOfEarlierObjects) {
  {
    const StopSignal stop;
    std::raise(SIGINT);
  }
  EXPECT_FALSE(StopSignal().requested());
}

/// Stands for a pause in a list of signals, after which a signal is another request.
constexpr int kPause = 0;

/// The exit status of a process that receives these signals; 7 if it survives them.
int status_after(std::initializer_list<int> signals) {
  const pid_t child = ::fork();
  if (child == 0) {
    const StopSignal stop;
    for (const int number : signals)
      if (number == kPause)
        std::this_thread::sleep_for(std::chrono::milliseconds(1010));
      else
        std::raise(number);
    ::_exit(7);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StopSignal, TheSecondSignalEndsTheProcessImmediately) {
  EXPECT_EQ(status_after({SIGINT}), 7);
  EXPECT_EQ(status_after({SIGINT, kPause, SIGINT}), 128 + SIGINT);
  EXPECT_EQ(status_after({SIGUSR1, kPause, SIGTERM}), 128 + SIGTERM);
}

TEST(StopSignal, SignalsInQuickSuccessionAreOneRequest) {
  EXPECT_EQ(status_after({SIGTERM, SIGTERM, SIGTERM}), 7);
  EXPECT_EQ(status_after({SIGTERM, SIGINT}), 7);
  EXPECT_EQ(status_after({SIGTERM, SIGTERM, kPause, SIGTERM}), 128 + SIGTERM);
}

TEST(StopSignal, SighupRequestsAStopButIsNeverTheSecondSignal) {
  std::signal(SIGHUP, SIG_DFL);  // tests may run under nohup
  EXPECT_EQ(status_after({SIGHUP, SIGHUP, SIGHUP}), 7);
  EXPECT_EQ(status_after({SIGTERM, SIGHUP}), 7);
  EXPECT_EQ(status_after({SIGHUP, SIGTERM}), 7);
  EXPECT_EQ(status_after({SIGHUP, SIGTERM, SIGTERM}), 7);
  EXPECT_EQ(status_after({SIGHUP, SIGTERM, kPause, SIGTERM}), 128 + SIGTERM);
  const StopSignal stop;
  std::raise(SIGHUP);
  EXPECT_EQ(stop.number(), SIGHUP);
}

TEST(StopSignal, AnIgnoredSighupStaysIgnored) {
  const auto former = std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignal stop;
    std::raise(SIGHUP);
    EXPECT_FALSE(stop.requested());
  }
  EXPECT_EQ(std::signal(SIGHUP, former), SIG_IGN);
}

}  // namespace
}  // namespace dalle
