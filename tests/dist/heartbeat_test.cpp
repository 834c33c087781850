#include "dalle/dist/heartbeat.h"

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
constexpr auto kPatience = 10s;  // of the test, on a busy machine

/// A rank's heartbeat, and the report that it may make. A process would end with its report:
/// `at_end` does what its end does.
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
    return future.wait_for(kPatience) == std::future_status::ready ? future.get() : "none";
  }
  bool reported_within(std::chrono::milliseconds time) {
    return future.wait_for(time) == std::future_status::ready;
  }

  std::atomic<bool> is_repeated = false;
  std::promise<std::string> promise;
  std::future<std::string> future = promise.get_future();
  std::unique_ptr<Heartbeat> heartbeat;
};

/// What a rank that no longer exists has left behind.
void leave_words(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank) {
  store->set("heartbeat/" + std::to_string(rank), std::string("7;w;0;step 41, computing (sum)"));
}

/// A store whose keeper may go.
struct MortalStore : c10d::HashStore {
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

/// A store whose keeper may be stopped: then it does not answer.
struct FrozenStore : c10d::HashStore {
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    while (is_frozen) std::this_thread::sleep_for(1ms);
    HashStore::set(key, value);
  }
  std::atomic<bool> is_frozen = false;
};

TEST(Heartbeat, OfLivingRanksReportsNothing) {
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
  EXPECT_FALSE(first.heartbeat->stop_is_wanted());
  asked = true;
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!(first.heartbeat->stop_is_wanted() && second.heartbeat->stop_is_wanted()) &&
         std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(first.heartbeat->stop_is_wanted());
  EXPECT_TRUE(second.heartbeat->stop_is_wanted());
  third.heartbeat->watch_for_stop({});
}

TEST(Heartbeat, LetsACheckpointBeWrittenBeforeItEndsForALoss) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  first.heartbeat->set_saving(true);
  second.heartbeat->announce_failure("it is out of luck");
  EXPECT_THAT(third.report(), HasSubstr("rank 1 failed: it is out of luck"));
  EXPECT_FALSE(first.reported_within(kTimeout / 4));
  first.heartbeat->set_saving(false);
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed: it is out of luck"));
}

TEST(Heartbeat, DoesNotWaitForeverForACheckpoint) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->set_saving(true);
  second.heartbeat->announce_failure("it is out of luck");
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed"));
}

TEST(Heartbeat, LeavesTheEndToTheThreadThatFails) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->announce_failure("it is out of luck");
  EXPECT_FALSE(second.reported_within(kTimeout / 2));
}

TEST(Heartbeat, NamesASilentRankItsStepAndItsPhase) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  leave_words(store, 2);
  Watcher watcher(store, 1, 3), first(store, 0, 3);
  EXPECT_THAT(watcher.report(), AllOf(HasSubstr("rank 1 of 3: rank 2 has sent no heartbeat for"),
                                      HasSubstr("it was at step 41, computing (sum)")));
}

TEST(Heartbeat, TellsRanksThatDoNotWatchTheLostOne) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  leave_words(store, 2);
  Watcher first(store, 0, 4), second(store, 1, 4), last(store, 3, 4);
  EXPECT_THAT(last.report(), HasSubstr("rank 3 of 4: rank 2 has sent no heartbeat"));
}

TEST(Heartbeat, RemembersWhereTheFirstRankWasWhenTheStoreGoesWithIt) {
  const auto store = c10::make_intrusive<MortalStore>();
  leave_words(store, 0);
  Watcher second(store, 1, 2);
  second.heartbeat->enter(Phase::kComputing, 42);
  second.heartbeat->wait_begins("all_gather");
  store->is_gone = true;
  EXPECT_THAT(second.report(), AllOf(HasSubstr("rank 1 of 2: rank 0, or the launcher"),
                                     HasSubstr("rank 0 was last at step 41, computing (sum)"),
                                     HasSubstr("this one at step 42, computing (all_gather)")));
}

TEST(Heartbeat, ReportsARankThatIsStuck) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->enter(Phase::kLoading, 12);
  EXPECT_THAT(first.report(),
              HasSubstr("rank 0 of 2: rank 1 has been at step 12, loading data for"));
}

TEST(Heartbeat, OfARankThatLooksStuckBlamesTheSilentOneThatItWaitsFor) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3);
  { const Watcher second(store, 1, 3); }  // whose neighbour is the silent one
  leave_words(store, 2);
  first.heartbeat->enter(Phase::kComputing, 41);
  EXPECT_THAT(first.report(), HasSubstr("rank 0 of 3: rank 2 has sent no heartbeat for"));
}

TEST(Heartbeat, WaitsForEvaluationsAndForThoseWhoWait) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->enter(Phase::kEvaluating, 12);
  second.heartbeat->enter(Phase::kComputing, 12);
  second.heartbeat->wait_begins("sum");
  EXPECT_FALSE(first.reported_within(3 * kTimeout));
}

TEST(Heartbeat, ReportsThatNoRankLeavesItsCollective) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int64_t rank = 0; rank < 4; ++rank) {
    watchers.push_back(std::make_unique<Watcher>(store, rank, 4));
    watchers.back()->heartbeat->enter(Phase::kComputing, rank == 3 ? 40 : 41);
    watchers.back()->heartbeat->wait_begins("sum");
  }
  for (const auto& watcher : watchers)
    EXPECT_THAT(watcher->report(), AllOf(HasSubstr(": no rank has made progress for"),
                                         HasSubstr("rank 3 at step 40, computing (sum); "
                                                   "ranks 0-2 at step 41, computing (sum)"),
                                         HasSubstr("stalled, or they are out of sync")));
  EXPECT_FALSE(watchers[0]->is_repeated);
  EXPECT_TRUE(watchers[3]->is_repeated);
}

TEST(Heartbeat, BlamesNoRankIfAllAreStuckInTheSameWork) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  first.heartbeat->enter(Phase::kLoading, 12);
  second.heartbeat->enter(Phase::kLoading, 12);
  EXPECT_THAT(second.report(), AllOf(HasSubstr("rank 1 of 2: no rank has made progress for"),
                                     HasSubstr("ranks 0, 1 at step 12, loading data")));
}

TEST(Heartbeat, DoesNotTakeManyShortWaitsForALongOne) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  const auto end = std::chrono::steady_clock::now() + 3 * kTimeout;
  while (std::chrono::steady_clock::now() < end)
    for (const Watcher* watcher : {&first, &second}) {
      watcher->heartbeat->enter(Phase::kComputing, 41);
      watcher->heartbeat->wait_begins("sum");
      std::this_thread::sleep_for(kTimeout / 8);
    }
  EXPECT_FALSE(first.reported_within(0ms));
}

TEST(Heartbeat, OfTheFirstRankWarnsAgainAndAgainWhileItKeepsTheOthersWaiting) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  testing::internal::CaptureStderr();
  {
    Watcher first(store, 0, 2), second(store, 1, 2);
    first.heartbeat->enter(Phase::kEvaluating, 12);
    second.heartbeat->enter(Phase::kEvaluating, 12);
    second.heartbeat->wait_begins("broadcast");
    EXPECT_FALSE(first.reported_within(4 * kTimeout));
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const std::string words = "warning: rank 0 has been at step 12, evaluating for";
  const size_t found = log.find(words);
  EXPECT_NE(found, log.npos) << log;
  EXPECT_NE(log.find(words, found + 1), log.npos) << log;
}

TEST(Heartbeat, OfTheFirstRankNamesThoseForWhomItWaits) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  testing::internal::CaptureStderr();
  {
    Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
    for (const Watcher* watcher : {&first, &second}) watcher->heartbeat->wait_begins("gather");
    EXPECT_FALSE(first.reported_within(2 * kTimeout));
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("rank 0 has been at step 0, preparing (gather) for"),
                    HasSubstr("it is waiting for rank 2 at step 0, preparing")));
}

TEST(Heartbeat, WarnsOfAStallWhileModelsAreSent) {
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

TEST(Heartbeat, OfRanksThatFailInOneWayLetsOneSaySo) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  std::future<bool> second_says = std::async(
      std::launch::async, [&] { return second.heartbeat->announce_failure("no such folder"); });
  EXPECT_TRUE(first.heartbeat->announce_failure("no such folder"));
  EXPECT_FALSE(second_says.get());
  EXPECT_TRUE(third.heartbeat->announce_failure("the disk is full"));
}

TEST(Heartbeat, RepeatsWhatAFailedRankSaysOnTheFirstRankAlone) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 3), second(store, 1, 3), third(store, 2, 3);
  EXPECT_TRUE(second.heartbeat->announce_failure("the disk is full"));
  EXPECT_THAT(first.report(), HasSubstr("rank 1 failed: the disk is full"));
  EXPECT_THAT(third.report(), HasSubstr("rank 1 failed: the disk is full"));
  EXPECT_FALSE(first.is_repeated);
  EXPECT_TRUE(third.is_repeated);
}

TEST(Heartbeat, DoesNotMissARankThatSaidGoodbye) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2);
  { const Watcher second(store, 1, 2); }
  EXPECT_FALSE(first.reported_within(3 * kTimeout));
}

TEST(Heartbeat, PassesOnWhyARankFailed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Watcher first(store, 0, 2), second(store, 1, 2);
  second.heartbeat->announce_failure("the disk is full");
  EXPECT_EQ(first.report(), "rank 0 of 2: rank 1 failed: the disk is full");
}

TEST(Heartbeat, FindsTheRankThatIsToBlameForAFailedCollective) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  leave_words(store, 3);
  Watcher watcher(store, 1, 4), first(store, 0, 4), second(store, 2, 4);
  EXPECT_THAT(watcher.heartbeat->find_lost(),
              AllOf(HasSubstr("rank 3 has sent no heartbeat"), HasSubstr("step 41")));
}

TEST(Heartbeat, TellsTheOthersWhomItHasFound) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  leave_words(store, 2);
  Watcher first(store, 0, 4), last(store, 3, 4);
  { const Watcher second(store, 1, 4); }  // whose neighbour is the lost one
  EXPECT_THAT(first.heartbeat->find_lost(), HasSubstr("rank 2 has sent no heartbeat"));
  EXPECT_THAT(last.report(), HasSubstr("rank 3 of 4: rank 2 has sent no heartbeat"));
}

TEST(Heartbeat, OfTheFirstRankKeepsTheStoreUntilAllKnowWhoIsLost) {
  for (const int64_t lost : {1, 3}) {
    const auto store = c10::make_intrusive<MortalStore>();
    leave_words(store, lost);
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

TEST(Heartbeat, OfAFirstRankThatFailsKeepsTheStoreUntilAllKnowWhy) {
  const auto store = c10::make_intrusive<MortalStore>();
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

TEST(Heartbeat, SaysGoodbyeToAStoreThatDoesNotAnswerOnlyForSoLong) {
  const auto store = c10::make_intrusive<FrozenStore>();
  Watcher second(store, 1, 2);
  store->is_frozen = true;
  std::thread leaving([&] { second.heartbeat.reset(); });
  EXPECT_THAT(second.report(), HasSubstr("rank 1 of 2: rank 0, or the launcher"));
  store->is_frozen = false;
  leaving.join();
}

TEST(Heartbeat, DoesNotCountTheTimeInWhichThisProcessWasStopped) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto store = c10::make_intrusive<c10d::HashStore>();
    Watcher first(store, 0, 2), second(store, 1, 2);
    second.heartbeat->enter(Phase::kComputing, 12);
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
