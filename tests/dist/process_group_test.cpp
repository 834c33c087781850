#include "dist/process_group.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "error_of.h"
#include "ranks.h"

namespace dalle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Accepts connections at a port of the loopback, and never responds.
class SilentServer {
 public:
  SilentServer() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket_, generic, size), 0);
    EXPECT_EQ(::listen(socket_, 8), 0);
    EXPECT_EQ(::getsockname(socket_, generic, &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentServer() { ::close(socket_); }
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;

  uint16_t port() const { return port_; }

 private:
  int socket_;
  uint16_t port_ = 0;
};

TEST(ProcessGroup, OfOneRankChangesNothing) {
  ProcessGroup group;
  const auto values = torch::arange(3, torch::kFloat64);
  group.all_reduce(values);
  group.broadcast(values);
  group.barrier();
  EXPECT_TRUE(torch::equal(values, torch::arange(3, torch::kFloat64)));
  EXPECT_EQ(group.broadcast("text"), "text");
  EXPECT_TRUE(group.is_rank_zero());
}

TEST(ProcessGroup, SumsToTheSameBitsOnEveryRank) {
  constexpr int64_t kWorld = 3;
  std::vector<at::Tensor> sums(kWorld);
  on_ranks(kWorld, [&](ProcessGroup& group) {
    const auto mine = torch::arange(1000, torch::kFloat32) / 7 + 1.0 / (3 + group.rank());
    group.all_reduce(mine);
    sums[static_cast<size_t>(group.rank())] = mine;
  });
  const auto expected =
      3 * torch::arange(1000, torch::kFloat64) / 7 + (1.0 / 3 + 1.0 / 4 + 1.0 / 5);
  EXPECT_TRUE(torch::allclose(sums[0].to(torch::kFloat64), expected, 1e-6, 1e-6));
  EXPECT_TRUE(torch::equal(sums[0], sums[1]));
  EXPECT_TRUE(torch::equal(sums[0], sums[2]));
}

TEST(ProcessGroup, BroadcastsFromRankZero) {
  on_ranks(2, [](ProcessGroup& group) {
    const auto values = torch::full({5}, group.rank() + 2, torch::kInt64);
    group.broadcast(values);
    EXPECT_TRUE(torch::equal(values, torch::full({5}, 2, torch::kInt64)));
    const std::string bytes("a file\0of bytes", 15);
    EXPECT_EQ(group.broadcast(group.is_rank_zero() ? bytes : "another"), bytes);
    EXPECT_EQ(group.broadcast(std::string()), "");
  });
}

TEST(ProcessGroup, GathersStrings) {
  on_ranks(3, [](ProcessGroup& group) {
    EXPECT_EQ(group.all_gather_strings(std::string(static_cast<size_t>(group.rank()), 'x')),
              (std::vector<std::string>{"", "x", "xx"}));
    EXPECT_EQ(group.all_gather_strings(""), std::vector<std::string>(3));
    std::vector<std::string> long_texts;  // sent in pieces that end within them
    for (const char letter : {'\x80', '\0', '\xff'})
      long_texts.emplace_back(1'000'000, letter).append("end");
    EXPECT_EQ(group.all_gather_strings(long_texts[static_cast<size_t>(group.rank())]), long_texts);
  });
}

TEST(ProcessGroup, ReducesScattersAndGathersParts) {
  on_ranks(4, [](ProcessGroup& group) {
    const auto terms = torch::arange(8, torch::kFloat32) + 100.0 * group.rank();
    const auto part = torch::empty({2});
    group.reduce_scatter_async(part, terms.clone()).wait();
    const auto expected = 4 * torch::arange(8, torch::kFloat32) + 600;
    EXPECT_TRUE(torch::equal(part, expected.narrow(0, 2 * group.rank(), 2)));

    const auto full = torch::zeros({8});
    const auto own = full.narrow(0, 2 * group.rank(), 2);
    own.copy_(part);
    group.all_gather(full, own);  // in place
    EXPECT_TRUE(torch::equal(full, expected));

    const auto received = torch::empty({8});
    group.all_to_all(received, terms);
    for (int64_t rank = 0; rank < 4; ++rank)
      EXPECT_TRUE(torch::equal(received.narrow(0, 2 * rank, 2),
                               torch::arange(2, torch::kFloat32) + 2 * group.rank() + 100 * rank));
  });
}

TEST(ProcessGroup, OfOneRankWithAHostUsesABackend) {
  on_ranks(1, [](ProcessGroup& group) {
    const double waited_s = group.waited_s();
    const auto values = torch::arange(6, torch::kFloat32);
    const auto result = torch::zeros({6});
    group.reduce_scatter_async(result, values.clone()).wait();
    EXPECT_TRUE(torch::equal(result, values));
    group.all_gather(result.zero_(), values);
    EXPECT_TRUE(torch::equal(result, values));
    group.all_to_all(result.zero_(), values);
    EXPECT_TRUE(torch::equal(result, values));
    group.all_reduce(result);
    EXPECT_TRUE(torch::equal(result, values));
    EXPECT_EQ(group.broadcast("text"), "text");
    EXPECT_EQ(group.all_gather_strings("text"), std::vector<std::string>{"text"});
    EXPECT_GT(group.waited_s(), waited_s);
  });
}

TEST(ProcessGroup, NamesTheRanksThatDoNotConnect) {
  const uint16_t port = free_port();
  const std::string error = error_of([&] {
    ProcessGroup(info_of(0, 3, port), c10::kCPU, {.timeout = std::chrono::milliseconds(300)});
  });
  EXPECT_THAT(error, HasSubstr("ranks 1, 2 did not connect"));
}

TEST(ProcessGroup, LogsWhoIsMissingWhileItWaits) {
  const uint16_t port = free_port();
  testing::internal::CaptureStderr();
  error_of([&] {
    ProcessGroup(info_of(0, 4, port), c10::kCPU, {.timeout = std::chrono::milliseconds(600)});
  });
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(fmt::format("waiting for ranks 1-3 of 4 at 127.0.0.1:{}", port)));
  EXPECT_NE(log.find("waiting"), log.rfind("waiting"));  // repeatedly
}

TEST(ProcessGroup, LogsThatItWaitsForRankZero) {
  RankInfo info = info_of(1, 2, free_port());
  info.local_rank = 0;
  testing::internal::CaptureStderr();
  error_of([&] { ProcessGroup(info, c10::kCPU, {.timeout = std::chrono::seconds(1)}); });
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("rank 1 of 2: waiting for rank 0 at 127.0.0.1:"));
}

TEST(ProcessGroup, ReportsImmediatelyThatTheHostOfRankZeroDoesNotResolve) {
  RankInfo info = info_of(0, 2, free_port());
  info.host = "no-such-host.invalid";
  testing::internal::CaptureStderr();
  const std::string error =
      error_of([&] { ProcessGroup(info, c10::kCPU, {.timeout = std::chrono::milliseconds(300)}); });
  for (const std::string& text : {testing::internal::GetCapturedStderr(), error})
    EXPECT_THAT(text, HasSubstr("rank 0's host \"no-such-host.invalid\" cannot be resolved"));
}

TEST(ProcessGroup, RejectsNcclWithoutAGpu) {
  const auto meet = [] {
    ProcessGroup(info_of(1, 2, 1), c10::kCPU, {.backend = CommunicationBackend::kNccl});
  };
  EXPECT_THAT(error_of(meet), HasSubstr("distributed.backend: found nccl"));
}

TEST(ProcessGroup, NamesTheAddressThatItCouldNotConnectTo) {
  const uint16_t port = free_port();
  const std::string error = error_of(
      [&] { ProcessGroup(info_of(1, 2, port), c10::kCPU, {.timeout = std::chrono::seconds(1)}); });
  EXPECT_THAT(
      error,
      AllOf(HasSubstr("rank 1 of 2 (this test) could not connect to the other ranks at 127.0.0.1:"),
            HasSubstr("within 1 s")));
}

TEST(ProcessGroup, DoesNotWaitForeverForAStoreThatNeverAnswers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const SilentServer server;  // like a rank 0 that is stopped
  EXPECT_EXIT(ProcessGroup(info_of(1, 2, server.port()), c10::kCPU,
                           {.timeout = std::chrono::milliseconds(200)}),
              testing::ExitedWithCode(kExitRankLost), "does not respond");
}

TEST(ProcessGroup, NamesTheCollectiveThatFailedBecauseARankLeft) {
  const uint16_t port = free_port();
  std::thread leaver([&] {
    ProcessGroup(info_of(1, 2, port), c10::kCPU,
                 {.timeout = std::chrono::seconds(20)});  // and leaves
  });
  ProcessGroup group(info_of(0, 2, port), c10::kCPU, {.timeout = std::chrono::seconds(3)});
  leaver.join();
  const std::string error = error_of([&] { group.all_reduce(torch::ones({4})); });
  EXPECT_THAT(error,
              HasSubstr("rank 0 of 2: all-reduce failed because another rank has exited or hangs"));
}

}  // namespace
}  // namespace dalle
