#include "dalle/dist/process_group.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "error_of.h"

namespace dalle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A port of the loopback that is free now.
uint16_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(socket, generic, size), 0);
  EXPECT_EQ(::getsockname(socket, generic, &size), 0);
  ::close(socket);
  return ntohs(address.sin_port);
}

RankInfo info_of(int64_t rank, int64_t world, uint16_t port) {
  RankInfo info;
  info.rank = info.local_rank = rank;
  info.world = info.local_world = world;
  info.launcher = "this test";
  info.host = "127.0.0.1";
  info.port = port;
  return info;
}

/// Runs `body` as every rank of a world, each in a thread of its own.
void on_ranks(int64_t world, const std::function<void(ProcessGroup&)>& body) {
  const uint16_t port = free_port();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < world; ++rank)
    threads.emplace_back([&, rank] {
      EXPECT_EQ(error_of([&] {
                  ProcessGroup group(info_of(rank, world, port), c10::kCPU,
                                     std::chrono::seconds(20));
                  body(group);
                  group.barrier();
                }),
                "no error");
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(ProcessGroup, AloneChangesNothing) {
  ProcessGroup group;
  const auto values = torch::arange(3, torch::kFloat64);
  group.sum(values);
  group.broadcast(values);
  group.barrier();
  EXPECT_TRUE(torch::equal(values, torch::arange(3, torch::kFloat64)));
  EXPECT_EQ(group.broadcast("text"), "text");
  EXPECT_TRUE(group.is_first());
}

TEST(ProcessGroup, SumsToTheSameBitsOnEveryRank) {
  constexpr int64_t kWorld = 3;
  std::vector<at::Tensor> sums(kWorld);
  on_ranks(kWorld, [&](ProcessGroup& group) {
    const auto mine = torch::arange(1000, torch::kFloat32) / 7 + 1.0 / (3 + group.rank());
    group.sum(mine);
    sums[static_cast<size_t>(group.rank())] = mine;
  });
  const auto expected =
      3 * torch::arange(1000, torch::kFloat64) / 7 + (1.0 / 3 + 1.0 / 4 + 1.0 / 5);
  EXPECT_TRUE(torch::allclose(sums[0].to(torch::kFloat64), expected, 1e-6, 1e-6));
  EXPECT_TRUE(torch::equal(sums[0], sums[1]));
  EXPECT_TRUE(torch::equal(sums[0], sums[2]));
}

TEST(ProcessGroup, BroadcastsWhatTheFirstRankHas) {
  on_ranks(2, [](ProcessGroup& group) {
    const auto values = torch::full({5}, group.rank() + 2, torch::kInt64);
    group.broadcast(values);
    EXPECT_TRUE(torch::equal(values, torch::full({5}, 2, torch::kInt64)));
    const std::string bytes("a file\0of bytes", 15);
    EXPECT_EQ(group.broadcast(group.is_first() ? bytes : "another"), bytes);
    EXPECT_EQ(group.broadcast(std::string()), "");
  });
}

TEST(ProcessGroup, SaysWhereItWaitedForTheOthers) {
  const uint16_t port = free_port();
  const std::string error =
      error_of([&] { ProcessGroup(info_of(1, 2, port), c10::kCPU, std::chrono::seconds(1)); });
  EXPECT_THAT(error,
              AllOf(HasSubstr("rank 1 of 2 (this test) could not meet the others at 127.0.0.1:"),
                    HasSubstr("within 1 s")));
}

TEST(ProcessGroup, NamesTheCollectiveThatAnotherRankLeft) {
  const uint16_t port = free_port();
  std::thread leaver([&] {
    ProcessGroup(info_of(1, 2, port), c10::kCPU, std::chrono::seconds(20));  // and goes
  });
  ProcessGroup group(info_of(0, 2, port), c10::kCPU, std::chrono::seconds(3));
  leaver.join();
  const std::string error = error_of([&] { group.sum(torch::ones({4})); });
  EXPECT_THAT(error, HasSubstr("rank 0 of 2: sum failed, another rank is gone or stuck"));
}

}  // namespace
}  // namespace dalle
