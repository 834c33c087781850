#include "dist/heartbeat.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

namespace dalle {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kTimeout = 400ms;
constexpr auto kTestTimeout = 10s;  // generous, for a busy machine

/// A rank's heartbeat and the report that it may make. A real process would exit with its report;
/// `at_end` stands for the effects of that.
struct Watcher {
  Watcher(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank, int64_t world,
          const std::function<void()>& at_end = nullptr)
      : heartbeat(std::make_unique<Heartbeat>(store, rank, world, kTimeout,
                                              [this, at_end](const LossReport& loss) {
                                                if (at_end) at_end();
                                                is_repeated = loss.is_repeated;
                                                promise.set_value(loss.text);
                                              })) {}

  std::string report() {
    return future.wait_for(kTestTimeout) == std::future_status::ready ? future.get() : "none";
  }
  bool reported_within(std::chrono::milliseconds time) {
    return future.wait_for(time) == std::future_status::ready;
  }

  std::atomic<bool> is_repeated = false;
  std::promise<std::string> promise;
  std::future<std::string> future = promise.get_future();
  std::unique_ptr<Heartbeat> heartbeat;
};

/// Publishes the status of a rank that no longer exists.
void publish_status(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank) {
  store->set("heartbeat/" + std::to_string(rank),
             std::string("7;w;0;step 41, computing (all-reduce)"));
}

/// A store whose host may exit.
struct DyingStore : c10d::HashStore {
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    if (is_gone) throw std::runtime_error("connection reset");
    HashStore::set(key, value);
  }
  bool check(const std::vector<std::string>& keys) override {
    if (is_gone) throw std::runtime_error("connection reset");
    return HashStore::check(keys);
  }
  std::atomic<bool> is_gone = false;
};

/// A store whose host may be stopped, so that it does not respond.
struct FrozenStore : c10d::HashStore {
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    while (is_frozen) std::this_thread::sleep_for(1ms);
    HashStore::set(key, value);
  }
  std::atomic<bool> is_frozen = false;
};

TEST(Heartbeat, ReportsNothingWhileAllRanksLive) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  EXPECT_FALSE(first.reported_within(3 * kTimeout));
  EXPECT_FALSE(second.reported_within(0ms));
}

TEST(Heartbeat, TellsAllRanksThatOneWasAskedToStop) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  std::atomic<bool> asked = false;
  third.heartbeat->watch_for_stop([&] { return asked.load(); });
  std::this_thread::sleep_for(kTimeout);
  EXPECT_FALSE(first.heartbeat->stop_requested());
  asked = true;
  const auto deadline = std::chrono::steady_clock::now() + kTestTimeout;
  while (!(first.heartbeat->stop_requested() && second.heartbeat->stop_requested()) &&
         std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(first.heartbeat->stop_requested());
  EXPECT_TRUE(second.heartbeat->stop_requested());
  third.heartbeat->watch_for_stop({});
}

TEST(Heartbeat, ExitsForALossOnlyAfterACheckpointIsWritten) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  first.heartbeat->set_saving(true);
  second.heartbeat->announce_failure("no space left on device");
  EXPECT_THAT(third.report(), HasSubstr("rank 1 failed: no space left on device"));
  EXPECT_FALSE(first.reported_within(kTimeout / 4));
  first.heartbeat->set_saving(false);
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed: no space left on device"));
}

TEST(Heartbeat, DoesNotWaitForeverForACheckpoint) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->set_saving(true);
  second.heartbeat->announce_failure("no space left on device");
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed"));
}

TEST(Heartbeat, LeavesTheExitToTheThreadThatFailed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->announce_failure("no space left on device");
  EXPECT_FALSE(second.reported_within(kTimeout / 2));
}

TEST(Heartbeat, NamesASilentRankWithItsStepAndPhase) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  publish_status(store, 2);
  Watcher watcher(store, 1, 3), first(store, 0, 3);
  EXPECT_THAT(watcher.report(), AllOf(HasSubstr("rank 1 of 3: rank 2 has sent no heartbeat for"),
                                      HasSubstr("it was at step 41, computing (all-reduce)")));
}

TEST(Heartbeat, InformsRanksThatDoNotWatchTheLostOne) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  publish_status(store, 2);
  Watcher first(store, 0, 4), second(store, 1, 4), last(store, 3, 4);
  EXPECT_THAT(last.report(), HasSubstr("rank 3 of 4: rank 2 has sent no heartbeat"));
}

TEST(Heartbeat, RemembersWhereRankZeroWasWhenTheStoreIsGone) {
  const auto store = c10::make_intrusive<DyingStore>();
  publish_status(store, 0);
  Watcher second(store, 1, 2);
  second.heartbeat->set_phase(Phase::kComputing, 42);
  second.heartbeat->wait_begins("all-gather");
  store->is_gone = true;
  EXPECT_THAT(second.report(),
              AllOf(HasSubstr("rank 1 of 2: rank 0, or the launcher"),
                    HasSubstr("rank 0 was last at step 41, computing (all-reduce)"),
                    HasSubstr("this rank at step 42, computing (all-gather)")));
}

TEST(Heartbeat, ReportsARankThatIsStuck) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->set_phase(Phase::kLoading, 12);
  EXPECT_THAT(first.report(),
              HasSubstr("rank 0 of 2: rank 1 has been at step 12, loading data for"));
}

TEST(Heartbeat, BlamesTheSilentRankRatherThanTheOneWaitingForIt) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3);
  { const Watcher second(store, 1, 3); }  // which would watch the silent one
  publish_status(store, 2);
  first.heartbeat->set_phase(Phase::kComputing, 41);
  EXPECT_THAT(first.report(), HasSubstr("rank 0 of 3: rank 2 has sent no heartbeat for"));
}

TEST(Heartbeat, ToleratesLongEvaluationsAndWaitsForThem) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->set_phase(Phase::kEvaluating, 12);
  second.heartbeat->set_phase(Phase::kComputing, 12);
  second.heartbeat->wait_begins("all-reduce");
  EXPECT_FALSE(first.reported_within(3 * kTimeout));
}

TEST(Heartbeat, ReportsThatAllRanksAreStuckInCollectives) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int64_t rank = 0; rank < 4; ++rank) {
    watchers.push_back(std::make_unique<Watcher>(store, rank, 4));
    watchers.back()->heartbeat->set_phase(Phase::kComputing, rank == 3 ? 40 : 41);
    watchers.back()->heartbeat->wait_begins("all-reduce");
  }
  for (const auto& watcher : watchers)
    EXPECT_THAT(watcher->report(), AllOf(HasSubstr(": no rank has made progress for"),
                                         HasSubstr("rank 3 at step 40, computing (all-reduce); "
                                                   "ranks 0-2 at step 41, computing (all-reduce)"),
                                         HasSubstr("stalled, or they are out of sync")));
  EXPECT_FALSE(watchers[0]->is_repeated);
  EXPECT_TRUE(watchers[3]->is_repeated);
}

TEST(Heartbeat, BlamesNoRankIfAllAreStuckInTheSameWork) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->set_phase(Phase::kLoading, 12);
  second.heartbeat->set_phase(Phase::kLoading, 12);
  EXPECT_THAT(second.report(), AllOf(HasSubstr("rank 1 of 2: no rank has made progress for"),
                                     HasSubstr("ranks 0, 1 at step 12, loading data")));
}

TEST(Heartbeat, DoesNotMistakeManyShortWaitsForALongOne) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  const auto end = std::chrono::steady_clock::now() + 3 * kTimeout;
  while (std::chrono::steady_clock::now() < end)
    for (const Watcher* watcher : {&first, &second}) {
      watcher->heartbeat->set_phase(Phase::kComputing, 41);
      watcher->heartbeat->wait_begins("all-reduce");
      std::this_thread::sleep_for(kTimeout / 8);
    }
  EXPECT_FALSE(first.reported_within(0ms));
}

TEST(Heartbeat, OfRankZeroWarnsRepeatedlyWhileTheOthersWaitForIt) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  testing::internal::CaptureStderr();
  {
    Watcher first(store, 0, 2), second(store, 1, 2);
    first.heartbeat->set_phase(Phase::kEvaluating, 12);
    second.heartbeat->set_phase(Phase::kEvaluating, 12);
    second.heartbeat->wait_begins("broadcast");
    EXPECT_FALSE(first.reported_within(4 * kTimeout));
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const std::string warning = "warning: rank 0 has been at step 12, evaluating for";
  const size_t found = log.find(warning);
  EXPECT_NE(found, log.npos) << log;
  EXPECT_NE(log.find(warning, found + 1), log.npos) << log;
}

TEST(Heartbeat, OfRankZeroNamesTheRanksThatItWaitsFor) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  testing::internal::CaptureStderr();
  {
    Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
    for (const Watcher* watcher : {&first, &second}) watcher->heartbeat->wait_begins("all-gather");
    EXPECT_FALSE(first.reported_within(2 * kTimeout));
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("rank 0 has been at step 0, preparing (all-gather) for"),
                    HasSubstr("it is waiting for rank 2 at step 0, preparing")));
}

TEST(Heartbeat, WarnsAboutAStallWhileModelsAreBroadcast) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  testing::internal::CaptureStderr();
  {
    Watcher first(store, 0, 2), second(store, 1, 2);
    for (const Watcher* watcher : {&first, &second}) watcher->heartbeat->wait_begins("broadcast");
    EXPECT_FALSE(first.reported_within(2 * kTimeout));
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("no rank has made progress for"),
                    HasSubstr("ranks 0, 1 at step 0, preparing (broadcast)")));
}

TEST(Heartbeat, LetsOneRankReportAFailureThatSeveralShare) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  std::future<bool> second_reports = std::async(
      std::launch::async, [&] { return second.heartbeat->announce_failure("no such folder"); });
  EXPECT_TRUE(first.heartbeat->announce_failure("no such folder"));
  EXPECT_FALSE(second_reports.get());
  EXPECT_TRUE(third.heartbeat->announce_failure("the disk is full"));
}

TEST(Heartbeat, NeverSilencesTheRankThatOthersBlame) {
  for (const bool is_first : {false, true}) {
    const auto store = c10::make_intrusive<c10d::HashStore>();
    Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
    const auto third_reports = [&] {
      return third.heartbeat->announce_failure("the disk is full");
    };
    if (is_first) {
      EXPECT_TRUE(third_reports());
    }
    EXPECT_TRUE(first.heartbeat->announce_failure("rank 2: the disk is full"));
    EXPECT_FALSE(second.heartbeat->announce_failure("rank 2: the disk is full"));
    if (!is_first) {
      EXPECT_TRUE(third_reports());
    }
  }
}

TEST(Heartbeat, RepeatsAnotherRanksFailureOnRankZeroOnly) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  EXPECT_TRUE(second.heartbeat->announce_failure("the disk is full"));
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed: the disk is full"));
  EXPECT_THAT(third.report(), HasSubstr("rank 1 failed: the disk is full"));
  EXPECT_FALSE(first.is_repeated);
  EXPECT_TRUE(third.is_repeated);
}

TEST(Heartbeat, DoesNotReportARankThatHasLeft) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2);
  { const Watcher second(store, 1, 2); }
  EXPECT_FALSE(first.reported_within(3 * kTimeout));
}

TEST(Heartbeat, ReportsWhyAnotherRankFailed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->announce_failure("the disk is full");
  EXPECT_EQ(first.report(), "rank 0 of 2: rank 1 failed: the disk is full");
}

TEST(Heartbeat, FindsTheRankToBlameForAFailedCollective) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  publish_status(store, 3);
  Watcher watcher(store, 1, 4), first(store, 0, 4), second(store, 2, 4);
  EXPECT_THAT(watcher.heartbeat->find_lost_rank(),
              AllOf(HasSubstr("rank 3 has sent no heartbeat"), HasSubstr("step 41")));
}

TEST(Heartbeat, TellsTheOthersWhichRankIsLost) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  publish_status(store, 2);
  Watcher first(store, 0, 4), last(store, 3, 4);
  { const Watcher second(store, 1, 4); }  // which would watch the lost one
  EXPECT_THAT(first.heartbeat->find_lost_rank(), HasSubstr("rank 2 has sent no heartbeat"));
  EXPECT_THAT(last.report(), HasSubstr("rank 3 of 4: rank 2 has sent no heartbeat"));
}

TEST(Heartbeat, OfRankZeroKeepsTheStoreUntilAllKnowWhichRankIsLost) {
  for (const int64_t lost : {1, 3}) {
    const auto store = c10::make_intrusive<DyingStore>();
    publish_status(store, lost);
    std::vector<std::unique_ptr<Watcher>> watchers;
    for (int64_t rank = 0; rank < 4; ++rank)
      if (rank != lost)
        watchers.push_back(std::make_unique<Watcher>(store, rank, 4, [&store, rank] {
          if (rank == 0) store->is_gone = true;
        }));
    for (const auto& watcher : watchers)
      EXPECT_THAT(watcher->report(),
                  HasSubstr(": rank " + std::to_string(lost) + " has sent no heartbeat"));
  }
}

TEST(Heartbeat, OfAFailingRankZeroKeepsTheStoreUntilAllKnowWhy) {
  const auto store = c10::make_intrusive<DyingStore>();
  Watcher second(store, 1, 2);
  try {
    const Watcher first(store, 0, 2);
    first.heartbeat->announce_failure("the disk is full");
    throw std::runtime_error("the disk is full");
  } catch (const std::runtime_error&) {
    store->is_gone = true;
  }
  EXPECT_EQ(second.report(), "rank 1 of 2: rank 0 failed: the disk is full");
}

TEST(Heartbeat, DoesNotWaitForeverForAFrozenStoreWhenItLeaves) {
  const auto store = c10::make_intrusive<FrozenStore>();
  Watcher second(store, 1, 2);
  store->is_frozen = true;
  std::thread leaving([&] { second.heartbeat.reset(); });
  EXPECT_THAT(second.report(), HasSubstr("rank 1 of 2: rank 0, or the launcher"));
  store->is_frozen = false;
  leaving.join();
}

TEST(Heartbeat, DoesNotCountTimeInWhichTheProcessWasStopped) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto store = c10::make_intrusive<c10d::HashStore>();
    Watcher first(store, 0, 2), second(store, 1, 2);
    second.heartbeat->set_phase(Phase::kComputing, 12);
    ::kill(::getpid(), SIGSTOP);
    ::_exit(first.reported_within(2 * kTimeout) ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, WUNTRACED);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(10 * kTimeout);
  ::kill(child, SIGCONT);
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace dalle
