#include "serve/engine/fair_queue.h"

#include <map>
#include <random>
#include <vector>

#include <gmock/gmock.h>

namespace dalle {
namespace {

using testing::ElementsAre;

/// The requests of the next images, each of which is complete before the next one begins.
std::vector<uint64_t> one_by_one(FairQueue& queue, std::map<uint64_t, std::string> clients) {
  std::vector<uint64_t> order;
  while (const auto request = queue.take()) {
    order.push_back(*request);
    queue.release(clients.at(*request));
  }
  return order;
}

TEST(FairQueue, TakesTheRequestsOfOneClientInTheirOrder) {
  FairQueue queue;
  queue.add("a", 1, 2);
  queue.add("a", 2, 1);
  queue.add("a", 3, 1);
  EXPECT_THAT(one_by_one(queue, {{1, "a"}, {2, "a"}, {3, "a"}}), ElementsAre(1, 1, 2, 3));
}

TEST(FairQueue, TakesTurnsBetweenClientsHoweverMuchTheyAskFor) {
  FairQueue queue;
  queue.add("greedy", 1, 5);
  queue.add("second", 2, 2);
  queue.add("third", 3, 1);
  EXPECT_THAT(one_by_one(queue, {{1, "greedy"}, {2, "second"}, {3, "third"}}),
              ElementsAre(1, 2, 3, 1, 2, 1, 1, 1));
}

TEST(FairQueue, PrefersTheClientWithTheFewestImagesInProgress) {
  FairQueue queue;
  queue.add("a", 1, 4);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(queue.take(), 1);
  queue.add("b", 2, 4);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(queue.take(), 2);
  EXPECT_EQ(queue.take(), 1);  // three each, and the turn of b was last
  queue.release("a");
  queue.release("a");
  queue.add("a", 3, 1);
  EXPECT_EQ(queue.take(), 3);  // two of a, three of b
  EXPECT_EQ(queue.take(), 2);
  EXPECT_EQ(queue.take(), std::nullopt);
}

TEST(FairQueue, ForgetsTheImagesOfARemovedRequest) {
  FairQueue queue;
  queue.add("a", 1, 3);
  queue.add("a", 2, 1);
  EXPECT_EQ(queue.take(), 1);
  queue.remove("a", 1);
  queue.remove("a", 1);
  queue.remove("unknown", 1);
  EXPECT_EQ(queue.take(), 2);
  EXPECT_EQ(queue.take(), std::nullopt);
  queue.release("a");
  queue.release("a");
  EXPECT_EQ(queue.take(), std::nullopt);
}

/// Others that come and go all the time, so that each has just arrived and has nothing in progress,
/// do not overtake a client that waits.
TEST(FairQueue, LetsNoClientWaitForever) {
  FairQueue queue;
  queue.add("resident", 1, 1);
  queue.add("patient", 2, 1);
  EXPECT_EQ(queue.take(), 1);
  queue.add("visitor", 3, 1);
  queue.release("resident");
  EXPECT_EQ(queue.take(), 2);
  queue.release("patient");
  EXPECT_EQ(queue.take(), 3);
}

TEST(FairQueue, SharesSlotsEvenly) {
  FairQueue queue;
  std::mt19937 random(1);
  const std::vector<std::string> clients = {"a", "b", "c", "d"};
  for (uint64_t c = 0; c < clients.size(); ++c) queue.add(clients[c], c, 1000);
  std::vector<uint64_t> slots;
  std::map<uint64_t, int> taken, in_progress;
  for (int turn = 0; turn < 1000; ++turn) {
    while (slots.size() < 8) {
      slots.push_back(queue.take().value());
      ++taken[slots.back()];
      ++in_progress[slots.back()];
    }
    for (uint64_t c = 0; c < clients.size(); ++c) EXPECT_EQ(in_progress[c], 2);
    std::swap(slots[random() % slots.size()], slots.back());
    queue.release(clients[slots.back()]);
    --in_progress[slots.back()];
    slots.pop_back();
  }
}

}  // namespace
}  // namespace dalle
