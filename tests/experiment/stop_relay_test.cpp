#include "experiment/stop_relay.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include <gtest/gtest.h>

namespace dalle {
namespace {

using namespace std::chrono_literals;

TEST(StopRelay, ReactsOnceToAStop) {
  const ProcessGroup group;
  const StopSignal stop;
  std::atomic<int> reactions = 0;
  const StopRelay stop_relay(group, stop, [&] {
    ++reactions;
    reactions.notify_one();
  });
  EXPECT_EQ(reactions, 0);
  std::raise(SIGTERM);
  reactions.wait(0);
  EXPECT_EQ(reactions, 1);
}

TEST(StopRelay, DoesNotReactOnceItIsDestroyed) {
  const ProcessGroup group;
  const StopSignal stop;
  std::atomic<int> reactions = 0;
  {
    const StopRelay stop_relay(group, stop, [&] { ++reactions; });
  }
  std::raise(SIGTERM);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(reactions, 0);
}

TEST(StopRelay, EndsAProcessThatIsBusyWithTheSignalsStatus) {
  const pid_t child = ::fork();
  if (child == 0) {
    const ProcessGroup group;
    const StopSignal stop;
    const StopRelay stop_relay(group, stop, [&] { end_process(group, stop); });
    std::raise(SIGINT);
    std::this_thread::sleep_for(60s);  // a library that cannot be interrupted
    ::_exit(7);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 128 + SIGINT);
}

}  // namespace
}  // namespace dalle
