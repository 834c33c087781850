#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/server_and_client.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

TEST(HttpLimitsTest, RefusesLargeBodiesBeforeReadingThem) {
  std::atomic<int> calls = 0;
  ServerAndClient test([&](const auto&, const auto&) { ++calls; }, {.body_bytes = 1000});
  const RawResponse response =
      test.client.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n");
  EXPECT_EQ(response.status, 413);
  EXPECT_THAT(response.body, HasSubstr("at most 1000 bytes"));
  EXPECT_EQ(response.headers.at("connection"), "close");

  RawClient chunked(test.server.port());
  chunked.send("POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n");
  for (int i = 0; i < 11; ++i) chunked.send("64\r\n" + std::string(100, 'x') + "\r\n");
  EXPECT_EQ(chunked.receive().status, 413);
  RawClient huge(test.server.port());
  EXPECT_EQ(
      huge.ask(
              "POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n")
          .status,
      413);
  EXPECT_EQ(calls, 0);
}

TEST(HttpLimitsTest, TellsWhyToClientsThatAreStillSending) {
  ServerAndClient test(echo, {.body_bytes = 1000});
  std::string request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n";
  request.resize(request.size() + 8'000'000, 'x');
  EXPECT_TRUE(test.client.send(request));
  EXPECT_EQ(test.client.receive().status, 413);
}

TEST(HttpLimitsTest, BoundsTheBodiesOfAllRequestsTogether) {
  ServerAndClient test(echo,
                       {.body_bytes = 1000, .all_bodies_bytes = 1500, .small_body_bytes = 500});
  const std::string incomplete =
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + std::string(999, 'x');
  for (int i = 0; i < 3; ++i)  // complete bodies do not count
    EXPECT_EQ(test.client.ask(incomplete + "x").status, 200);
  RawClient other(test.server.port());
  test.client.send(incomplete);
  other.send(incomplete);
  while (!test.client.is_readable() && !other.is_readable()) std::this_thread::sleep_for(1ms);
  RawClient& refused = other.is_readable() ? other : test.client;  // whichever came second
  RawClient& accepted = other.is_readable() ? test.client : other;
  const RawResponse response = refused.receive();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_EQ(accepted.ask("x").status, 200);  // the other one's body counts no longer
}

TEST(HttpLimitsTest, CountsBodiesUntilTheRequestIsDestroyed) {
  std::mutex mutex;
  std::vector<HttpRequest> kept;
  ServerAndClient test(
      [&](HttpRequest request, const auto& reply) {
        const std::lock_guard lock(mutex);
        kept.push_back(std::move(request));
        reply->send(plain("ok"));
      },
      {.body_bytes = 1000, .all_bodies_bytes = 1500, .small_body_bytes = 500});
  const auto with_body = [](size_t size) {
    return fmt::format("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", size,
                       std::string(size, 'x'));
  };
  EXPECT_EQ(test.client.ask(with_body(1000)).status, 200);
  EXPECT_EQ(RawClient(test.server.port()).ask(with_body(1000)).status, 503);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(test.client.ask(with_body(500)).status, 200);
  {
    const std::lock_guard lock(mutex);
    kept.clear();
  }
  EXPECT_EQ(test.client.ask(with_body(1000)).status, 200);
}

TEST(HttpLimitsTest, AsksForAdmissionBeforeABodyIsRead) {
  HttpServer::Options options = options_with();
  options.admit = [](const HttpRequest& head) -> std::optional<HttpResponse> {
    if (head.header("key") == "right" && head.path == "/x") return std::nullopt;
    return HttpResponse{.status = 401, .headers = {{"www-authenticate", "Bearer"}}};
  };
  const HttpServer server(options, echo, refuse_plainly);
  const std::string head = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n";
  for (const std::string expect : {"", "Expect: 100-continue\r\n"}) {
    RawClient refused(server.port());
    const RawResponse response = refused.ask(head + expect + "Key: wrong\r\n\r\n");  // no body
    EXPECT_EQ(response.status, 401);
    EXPECT_EQ(response.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(response.headers.at("connection"), "close");
  }
  EXPECT_EQ(RawClient(server.port()).ask(head + "Key: right\r\n\r\nabc").body, "POST /x body=abc");
}

TEST(HttpLimitsTest, RefusesLongHeaders) {
  const HttpLimits limits{.header_bytes = 1000, .header_fields = 10};
  std::string fields;
  for (int i = 0; i < 10; ++i) fields += fmt::format("a{}: b\r\n", i);
  for (const std::string& request :
       {"GET / HTTP/1.1\r\nHost: x\r\na: " + std::string(1000, 'b') + "\r\n\r\n",
        "GET /" + std::string(1000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n",
        std::string(100'000, 'a'), "GET / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: " +
            std::string(100'000, 'b')}) {
    ServerAndClient test(echo, limits);
    EXPECT_EQ(test.client.ask(request).status, 431) << request.substr(0, 100);
    EXPECT_EQ(test.client.receive().status, 0);
  }
}

TEST(HttpLimitsTest, RefusesMalformedRequests) {
  ServerAndClient test(echo);
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\n";
  const std::vector<std::pair<int, std::string>> requests{
      {400, "\r\n\r\n\r\n\r\n"},
      {400, "G@T / HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"},
      {505, "GET / HTTP/x.y\r\nHost: x\r\n\r\n"},
      {505, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"},
      {505, "GET / HTTP/9.9\r\nHost: x\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: x\r\nbad name: y\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: x\r\nno-colon\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: x\r\na: b" + std::string(1, '\0') + "\r\n\r\n"},
      {400, "GET /%0 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET /?%0 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET /?a=%ff HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "GET x HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {400, head + "content-length: -1\r\n\r\n"},
      {400, head + "content-length: 1x\r\n\r\n"},
      {400, head + "content-length: 99999999999999999999999\r\n\r\n"},
      {400, head + "content-length: 1\r\ncontent-length: 2\r\n\r\nab"},
      {400, head + "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, head + "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"},
      {501, head + "transfer-encoding: gzip\r\n\r\n"},
      {501, head + "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
      {501, head + "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, head + "transfer-encoding: chunked\r\n\r\nx\r\n"},
      {400, head + "transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n"},
  };
  for (const auto& [status, text] : requests) {
    RawClient client(test.server.port());
    client.send(text);
    EXPECT_EQ(client.receive().status, status) << testing::PrintToString(text);
    EXPECT_EQ(client.receive().status, 0) << testing::PrintToString(text);
  }
  EXPECT_EQ(test.client.ask(kGet).status, 200);
}

TEST(HttpLimitsTest, RefusesConnectionsBeyondTheLimit) {
  ServerAndClient test(echo, {.connections = 2});
  EXPECT_EQ(test.client.ask(kGet).status, 200);
  auto second = std::make_unique<RawClient>(test.server.port());
  EXPECT_EQ(second->ask(kGet).status, 200);
  std::vector<std::unique_ptr<RawClient>> more;
  for (int i = 0; i < 100; ++i) more.push_back(std::make_unique<RawClient>(test.server.port()));
  EXPECT_EQ(more.front()->ask(kGet).status, 503);
  EXPECT_EQ(test.client.ask(kGet).status, 200);
  second.reset();
  more.clear();
  int status = 0;  // the server may have to accept some that are gone first
  for (int i = 0; i < 1000 && status != 200; ++i) {
    status = RawClient(test.server.port()).ask(kGet).status;
    if (status != 200) std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(status, 200);
}

TEST(HttpLimitsTest, RefusesManyConnectionsOfOneAddress) {
  for (const bool limits_loopback : {true, false}) {
    ServerAndClient test(echo, {.connections_per_address = 1, .limits_loopback = limits_loopback});
    EXPECT_EQ(test.client.ask(kGet).status, 200);
    EXPECT_EQ(RawClient(test.server.port()).ask(kGet).status, limits_loopback ? 503 : 200);
    EXPECT_EQ(test.client.ask(kGet).status, 200);
  }
}

TEST(HttpLimitsTest, EndsRequestsThatAreNotSentInTime) {
  ServerAndClient test(echo, {.idle = 10s, .request = 50ms});
  test.client.send("POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 9999\r\n\r\n");
  for (int i = 0; i < 1000 && test.client.send("x"); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(test.client.receive().status, 408);
  RawClient in_head(test.server.port());
  EXPECT_EQ(in_head.ask("GET / HT").status, 408);
  EXPECT_EQ(in_head.receive_all(), "");
}

TEST(HttpLimitsTest, ClosesIdleConnections) {
  ServerAndClient test(echo, {.idle = 50ms});
  EXPECT_EQ(test.client.receive_all(), "");
  RawClient used(test.server.port());
  EXPECT_EQ(used.ask(kGet).status, 200);
  EXPECT_EQ(used.receive_all(), "");
}

TEST(HttpLimitsTest, WaitsForRepliesThatTakeLongerThanAllLimits) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  ServerAndClient test([&](const HttpRequest&, const auto& reply) { promise.set_value(reply); },
                       {.idle = 20ms, .request = 20ms});
  test.client.send(kGet);
  const auto reply = come(promise.get_future());
  std::this_thread::sleep_for(100ms);
  reply->send(plain("late"));
  EXPECT_EQ(test.client.receive().body, "late");
}

TEST(HttpLimitsTest, ClosesConnectionsOfClientsThatDoNotRead) {
  std::promise<void> closed;
  std::shared_ptr<HttpReply> reply;  // until it is complete, or the connection closed
  HttpServer server(
      options_with({.idle = 50ms}),
      [&](const HttpRequest&, const auto& its) {
        reply = its;
        reply->on_disconnect([&] { closed.set_value(); });
        reply->begin_stream({.status = 200, .content_type = "text/plain"});
        reply->write(std::string(50 << 20, 'x'));  // more than all sockets hold
      },
      refuse_plainly);
  RawClient client(server.port(), 4096);
  client.send(kGet);
  come(closed.get_future());
}

TEST(HttpLimitsTest, ClosesConnectionsOfClientsThatReadTooSlowly) {
  constexpr size_t kBytes = 100 << 20;
  ServerAndClient test(
      [](const HttpRequest&, const auto& reply) { reply->send(plain(std::string(kBytes, 'x'))); },
      {.idle = 200ms, .bytes_per_second = 1 << 30});
  test.client.send(kGet);
  size_t received = 0;
  for (std::string bytes; !(bytes = test.client.receive_some()).empty(); received += bytes.size())
    std::this_thread::sleep_for(5ms);  // never idle, but 20 times too slow
  EXPECT_LT(received, kBytes);
}

TEST(HttpLimitsTest, ClosesConnectionsOfClientsThatSendFarAhead) {
  std::promise<void> closed;
  std::shared_ptr<HttpReply> reply;
  ServerAndClient test([&](const HttpRequest&, const auto& its) {
    reply = its;
    reply->on_disconnect([&] { closed.set_value(); });
  });
  test.client.send(kGet);
  test.client.send(std::string(1 << 20, 'x'));
  come(closed.get_future());
}

TEST(HttpLimitsTest, BoundsWhatAStreamMayHoldForASlowClient) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  HttpServer server(
      options_with({.idle = 100s, .unsent_bytes = 1 << 20}),
      [&](const HttpRequest&, const auto& reply) {
        reply->begin_stream({.status = 200, .content_type = "text/plain"});
        promise.set_value(reply);
      },
      refuse_plainly);
  RawClient client(server.port(), 4096);
  client.send(kGet);
  const auto reply = come(promise.get_future());
  std::promise<void> closed;
  reply->on_disconnect([&] { closed.set_value(); });
  for (int i = 0; i < 1000; ++i) reply->write(std::string(100'000, 'x'));
  come(closed.get_future());
}

TEST(HttpLimitsTest, SurvivesALackOfFileDescriptors) {
  ServerAndClient test(echo);
  EXPECT_EQ(test.client.ask(kGet).status, 200);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  RawClient waiting(test.server.port());  // its socket exists, but perhaps not the server's
  EXPECT_EQ(waiting.ask(kGet).status, 200);
  const int next = ::dup(0);  // the next free one, and the server's would be the one after
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next) + 1;
  ::close(next);
  ::setrlimit(RLIMIT_NOFILE, &few);
  RawClient queued(test.server.port());
  EXPECT_TRUE(queued.is_connected());  // by the system
  queued.send(kGet);
  EXPECT_EQ(test.client.ask(kGet).status, 200);
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(queued.receive().status, 200);
}

}  // namespace
}  // namespace dalle
