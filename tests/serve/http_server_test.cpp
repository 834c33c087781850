#include "serve/http/http_server.h"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "error_of.h"
#include "serve/server_and_client.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

TEST(HttpServerTest, GivesTheHandlerAllPartsOfARequest) {
  std::promise<HttpRequest> promise;
  ServerAndClient test([&](HttpRequest request, const auto& reply) {
    reply->send(plain("ok"));
    promise.set_value(std::move(request));
  });
  const RawResponse response = test.client.ask(
      "POST /a%20b?x=1&y=%C3%A4+z HTTP/1.1\r\nHost: x\r\nX-One:  1 \r\ncontent-length: "
      "3\r\n\r\nabc");
  const HttpRequest request = come(promise.get_future());
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "ok");
  EXPECT_EQ(response.headers.at("content-type"), "text/plain");
  EXPECT_EQ(response.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(response.headers.at("connection"), "keep-alive");
  EXPECT_EQ(response.headers.at("x-request-id"), request.id);
  EXPECT_EQ(request.id.size(), 32U);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/a b");
  EXPECT_EQ(request.header("x-ONE"), "1");
  EXPECT_EQ(request.header("x-two"), "");
  EXPECT_EQ(request.body, "abc");
  EXPECT_EQ(request.client, "127.0.0.1");
}

TEST(HttpServerTest, AcceptsRequestsByteByByte) {
  ServerAndClient test(echo);
  for (const char c :
       std::string("POST /x HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                   "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n"))
    ASSERT_TRUE(test.client.send({&c, 1}));
  EXPECT_EQ(test.client.receive().body, "POST /x body=abcde");
}

TEST(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  std::vector<std::thread> threads;
  {
    ServerAndClient test([&](const HttpRequest& request, const auto& reply) {
      if (request.path != "/0") return reply->send(plain(request.path));
      threads.emplace_back([reply, path = request.path] {  // the first one takes longest
        std::this_thread::sleep_for(50ms);
        reply->send(plain(path));
      });
    });
    std::string requests;
    for (int i = 0; i < 100; ++i)
      requests += fmt::format("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", i, std::string(500, 'x'));
    test.client.send(requests);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(test.client.receive().body, fmt::format("/{}", i));
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HttpServerTest, ClosesConnectionsAsTheClientAsks) {
  for (const auto& [version, header, is_kept] :
       std::vector<std::tuple<std::string, std::string, bool>>{
           {"1.1", "", true},
           {"1.1", "Connection: close\r\n", false},
           {"1.0", "", false},
           {"1.0", "Connection: keep-alive\r\n", true}}) {
    ServerAndClient test(echo);
    const RawResponse first =
        test.client.ask("GET /a HTTP/" + version + "\r\nHost: x\r\n" + header + "\r\n");
    EXPECT_EQ(first.body, "GET /a body=");
    EXPECT_EQ(first.headers.at("connection"), is_kept ? "keep-alive" : "close");
    EXPECT_EQ(test.client.ask(kGet).status, is_kept ? 200 : 0) << version << header;
  }
}

TEST(HttpServerTest, AnswersClientsThatHaveFinishedSending) {
  ServerAndClient test(echo);
  test.client.send(kGet);
  test.client.end_sending();
  EXPECT_EQ(test.client.receive().body, "GET / body=");
}

TEST(HttpServerTest, SendsNoBodyToHeadRequests) {
  ServerAndClient test([](const HttpRequest& request, const auto& reply) {
    if (request.path == "/plain") return echo(request, reply);
    reply->begin_stream({.status = 200, .content_type = "text/plain"});
    reply->write("abc");
    reply->end();
  });
  test.client.send("HEAD /plain HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(test.client.receive(false).headers.at("content-length"), "16");
  test.client.send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(test.client.receive(false).status, 200);
  EXPECT_EQ(test.client.ask("GET /plain HTTP/1.1\r\nHost: x\r\n\r\n").body, "GET /plain body=");
}

TEST(HttpServerTest, AsksForTheBodyThatAClientHoldsBack) {
  ServerAndClient test(echo, {.body_bytes = 10});
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ";
  test.client.send(head + "3\r\n\r\n");
  EXPECT_EQ(test.client.receive(false).status, 100);
  EXPECT_EQ(test.client.ask("abc").body, "POST / body=abc");
  EXPECT_EQ(test.client.ask(head + "11\r\n\r\n").status, 413);
  RawClient other(test.server.port());
  EXPECT_EQ(
      other.ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n").status,
      417);
}

TEST(HttpServerTest, StreamsInChunksOrToTheEndOfAnHttp10Connection) {
  ServerAndClient test([](const HttpRequest&, const auto& reply) {
    reply->begin_stream({.status = 200, .content_type = "text/event-stream"});
    for (const char* chunk : {"one", "", "two"}) reply->write(chunk);
    reply->end();
  });
  for (int i = 0; i < 2; ++i) {
    const RawResponse response = test.client.ask(kGet);
    EXPECT_EQ(response.headers.at("transfer-encoding"), "chunked");
    EXPECT_EQ(response.body, "onetwo");
  }
  RawClient old(test.server.port());
  const RawResponse response = old.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_EQ(response.body, "onetwo");
}

TEST(HttpServerTest, SendsEachPieceOfAStreamAtOnce) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  ServerAndClient test([&](const HttpRequest&, const auto& reply) {
    reply->begin_stream({.status = 200, .content_type = "text/plain"});
    promise.set_value(reply);
  });
  test.client.send(kGet);
  EXPECT_EQ(test.client.receive(false).status, 200);
  const auto reply = come(promise.get_future());
  for (const std::string text : {"a", "b"}) {
    reply->write(text);
    std::string received;
    while (received.size() < 6) received += test.client.receive_some();
    EXPECT_EQ(received, "1\r\n" + text + "\r\n");
  }
}

TEST(HttpServerTest, NeverRepeatsARequestInItsHeaders) {
  ServerAndClient test(echo);
  const RawResponse response = test.client.ask(
      "GET /%22mark%22?mark=mark HTTP/1.1\r\nHost: mark\r\nmark: mark\r\nX-Request-Id: "
      "mark\r\n\r\n");
  EXPECT_EQ(response.status, 200);
  for (const auto& [name, value] : response.headers)
    EXPECT_EQ((name + value).find("mark"), std::string::npos) << name;
}

TEST(HttpServerTest, NoticesDisconnectsWhileAReplyIsPending) {
  for (const bool is_streaming : {false, true}) {
    std::promise<std::shared_ptr<HttpReply>> promise;
    std::promise<void> closed;
    ServerAndClient test([&](const HttpRequest&, const auto& reply) {
      reply->on_disconnect([&] { closed.set_value(); });
      if (is_streaming) reply->begin_stream({.status = 200, .content_type = "text/plain"});
      promise.set_value(reply);
    });
    test.client.send(kGet);
    const auto reply = come(promise.get_future());
    test.client.close();
    come(closed.get_future());
    if (is_streaming) {
      reply->write("too late");
      reply->end();
    } else {
      reply->send(plain("too late"));
    }
    bool is_called_at_once = false;
    reply->on_disconnect([&] { is_called_at_once = true; });
    EXPECT_TRUE(is_called_at_once);
  }
}

TEST(HttpServerTest, DoesNotCallCompleteRepliesDisconnected) {
  std::atomic<int> calls = 0;
  ServerAndClient test([&](const HttpRequest&, const auto& reply) {
    reply->on_disconnect([&] { ++calls; });
    reply->send(plain("ok"));
    reply->on_disconnect([&] { ++calls; });
  });
  EXPECT_EQ(test.client.ask(kGet).status, 200);
  test.client.close();
  test.server.stop();
  EXPECT_EQ(calls, 0);
}

TEST(HttpServerTest, AnswersForHandlersThatFail) {
  ServerAndClient test([](const HttpRequest& request, const auto& reply) {
    if (request.path == "/throw") throw std::runtime_error("secret");
    if (request.path == "/split") reply->send({.headers = {{"a", "b\r\nc: d"}}});
    if (request.path == "/cut") reply->begin_stream({});
  });  // and others are dropped
  for (const char* path : {"/throw", "/split", "/drop"}) {
    const RawResponse response =
        test.client.ask(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(response.status, 500) << path;
    EXPECT_EQ(response.body, "internal error");
  }
  EXPECT_THAT(RawClient(test.server.port()).ask("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n").status, 0);
}

TEST(HttpServerTest, StopsAfterTheRepliesInProgress) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  ServerAndClient test([&](const HttpRequest& request, const auto& reply) {
    if (request.path != "/long") return echo(request, reply);
    promise.set_value(reply);
  });
  RawClient idle(test.server.port());
  test.client.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto reply = come(promise.get_future());
  std::thread stop([&] { test.server.stop(10s); });
  RawResponse response;
  while ((response = RawClient(test.server.port()).ask(kGet)).status == 200) {
  }
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_EQ(idle.ask(kGet).status, 503);
  reply->send(plain("finished"));
  EXPECT_EQ(test.client.receive().body, "finished");
  stop.join();
  EXPECT_FALSE(RawClient(test.server.port()).is_connected());
}

TEST(HttpServerTest, StopsWithoutWaitingLongerThanTheGrace) {
  std::promise<std::shared_ptr<HttpReply>> promise;
  std::promise<void> closed;
  std::shared_ptr<HttpReply> reply;
  {
    ServerAndClient test([&](const HttpRequest&, const auto& its) {
      its->on_disconnect([&] { closed.set_value(); });
      promise.set_value(its);
    });
    test.client.send(kGet);
    reply = come(promise.get_future());
    test.server.stop(10ms);
    come(closed.get_future());
    EXPECT_EQ(test.client.receive_all(), "");
  }
  reply->send(plain("after the server"));
}

TEST(HttpServerTest, ReportsWhatBecameOfEachRequest) {
  std::mutex mutex;
  std::vector<HttpCompletion> completions;
  HttpServer::Options options = options_with({.body_bytes = 10});
  options.completed = [&](const HttpCompletion& completion) {
    const std::lock_guard lock(mutex);
    completions.push_back(completion);
  };
  std::promise<std::shared_ptr<HttpReply>> promise;
  HttpServer server(
      options,
      [&](const HttpRequest& request, const auto& reply) {
        if (request.path == "/gone") return promise.set_value(reply);
        reply->note("queue 1 s");
        reply->note("decode 2 s");
        reply->send(plain("ok"));
      },
      refuse_plainly);
  RawClient client(server.port());
  const RawResponse response = client.ask("HEAD /a%20b?c=d HTTP/1.0\r\n\r\n");
  RawClient(server.port()).ask("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n");
  const auto reported = [&] {
    const std::lock_guard lock(mutex);
    return completions.size();
  };
  while (reported() < 2) std::this_thread::sleep_for(1ms);
  RawClient gone(server.port());
  gone.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto reply = come(promise.get_future());
  gone.close();
  server.stop(10s);
  ASSERT_EQ(completions.size(), 3U);
  EXPECT_EQ(completions[0].method, "HEAD");
  EXPECT_EQ(completions[0].target, "/a%20b?c=d");
  EXPECT_EQ(completions[0].path, "/a b");
  EXPECT_EQ(completions[0].client, "127.0.0.1");
  EXPECT_EQ(completions[0].id, response.headers.at("x-request-id"));
  EXPECT_EQ(completions[0].status, 200);
  EXPECT_EQ(completions[0].note, "queue 1 s, decode 2 s");
  EXPECT_TRUE(completions[0].is_complete);
  EXPECT_EQ(completions[1].status, 413);
  EXPECT_EQ(completions[2].path, "/gone");
  EXPECT_EQ(completions[2].status, 0);
  EXPECT_FALSE(completions[2].is_complete);
}

TEST(HttpServerTest, NamesAnAddressThatCannotBeBound) {
  const HttpServer server(options_with(), echo, refuse_plainly);
  HttpServer::Options taken;
  taken.port = server.port();
  EXPECT_EQ(error_of([&] { HttpServer(taken, echo, refuse_plainly); }),
            fmt::format("127.0.0.1:{}: cannot listen: Address already in use", server.port()));
  EXPECT_THAT(error_of([&] { HttpServer({.host = "256.0.0.1"}, echo, refuse_plainly); }),
              HasSubstr("256.0.0.1:8080: cannot listen"));
}

}  // namespace
}  // namespace dalle
