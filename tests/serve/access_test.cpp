#include "serve/http/access.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base64.h"
#include "core/files.h"
#include "error_of.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

/// Remembers the response.
class RecordingReply : public HttpReply {
 public:
  void send(HttpResponse sent) override { response = std::move(sent); }
  void begin_stream(HttpResponse head) override { response = std::move(head); }
  void write(std::string) override {}
  void end() override {}
  void on_disconnect(std::function<void()>) override {}

  std::string header(const std::string& name) const {
    for (const auto& [its_name, value] : response.headers)
      if (its_name == name) return value;
    return "";
  }

  HttpResponse response = {.status = 0};
};

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Asked {
  std::string method = "GET";
  std::string path = "/v1/models";
  Headers headers = {};
};

std::shared_ptr<RecordingReply> answer_under(const AccessRules& rules, const Asked& asked) {
  const auto reply = std::make_shared<RecordingReply>();
  const HttpHandler handler = with_access_rules(
      rules,
      [](const HttpRequest& request, const std::shared_ptr<HttpReply>& its) {
        if (request.path == "/stream") return its->begin_stream({});
        its->send({});
      },
      [](int status, const std::string& message) {
        return HttpResponse{.status = status, .body = message};
      });
  handler({.method = asked.method, .path = asked.path, .headers = asked.headers}, reply);
  return reply;
}

int status_under(const AccessRules& rules, const Asked& asked) {
  return answer_under(rules, asked)->response.status;
}

ApiKeys keys_of(const std::vector<std::string>& keys) {
  return ApiKeys(keys);
}

TEST(AccessTest, RequiresAKey) {
  const AccessRules rules{.keys = keys_of({"first", "second-key"})};
  for (const char* value : {"Bearer first", "bearer second-key", "Bearer  first "})
    EXPECT_EQ(status_under(rules, {.headers = {{"Authorization", value}}}), 200) << value;
  for (const char* value :
       {"", "first", "Bearer", "Bearer ", "Bearer firs", "Bearer firstx", "Bearer First",
        "Bearer first second-key", "Basic first", "Token first"})
    EXPECT_EQ(status_under(rules, {.headers = {{"authorization", value}}}), 401) << value;
  EXPECT_EQ(status_under(rules, {}), 401);
  EXPECT_EQ(answer_under(rules, {})->header("www-authenticate"), "Bearer");
  EXPECT_EQ(status_under({}, {}), 200);
}

TEST(AccessTest, AcceptsKeysAsPasswords) {
  const AccessRules rules{.keys = keys_of({"key", "anna:secret"})};
  for (const auto& [pair, status] : std::vector<std::pair<std::string, int>>{{"anyone:key", 200},
                                                                             {":key", 200},
                                                                             {"anna:secret", 200},
                                                                             {"bert:secret", 401},
                                                                             {"key", 200},
                                                                             {"key:", 401},
                                                                             {"a:key:", 401},
                                                                             {"", 401}})
    EXPECT_EQ(status_under(rules, {.headers = {{"authorization", "Basic " + base64(pair)}}}),
              status)
        << pair;
  EXPECT_EQ(status_under(rules, {.headers = {{"authorization", "Basic ?"}}}), 401);
}

TEST(AccessTest, LeavesOpenPathsOpen) {
  const AccessRules rules{.keys = keys_of({"key"}),
                          .is_open = [](std::string_view path) { return path == "/health"; }};
  EXPECT_EQ(status_under(rules, {.path = "/health"}), 200);
  EXPECT_EQ(status_under(rules, {.path = "/health/"}), 401);
}

TEST(AccessTest, ReadsKeysFromAFile) {
  const TemporaryDirectory folder;
  const auto write = [&](const std::string& content) {
    write_file_atomically(folder / "keys", content);
    return folder / "keys";
  };
  EXPECT_EQ(read_api_keys(write("# of the lab\n  one \r\n\ntwo:three\n")),
            (std::vector<std::string>{"one", "two:three"}));
  const std::string path = (folder / "keys").string();
  EXPECT_EQ(error_of([&] { read_api_keys(write("#\n\n")); }),
            path + ": found no API key, expected one per line");
  EXPECT_EQ(error_of([&] { read_api_keys(write("one\nt wo\n")); }),
            path + ":2: expected an API key of printable ASCII characters without spaces");
  EXPECT_NE(error_of([&] { read_api_keys(folder / "none"); }), "no error");
}

TEST(AccessTest, ReadsKeysFromAVariable) {
  ::unsetenv("DALLE_TEST_KEYS");
  EXPECT_TRUE(api_keys_of_variable("DALLE_TEST_KEYS").empty());
  ::setenv("DALLE_TEST_KEYS", " one two ", 1);
  EXPECT_EQ(api_keys_of_variable("DALLE_TEST_KEYS"), (std::vector<std::string>{"one", "two"}));
  ::setenv("DALLE_TEST_KEYS", "\xc3\xa4", 1);
  EXPECT_EQ(error_of([] { api_keys_of_variable("DALLE_TEST_KEYS"); }),
            "DALLE_TEST_KEYS: expected API keys of printable ASCII characters");
  ::unsetenv("DALLE_TEST_KEYS");
}

TEST(AccessTest, RefusesPagesOfOtherOrigins) {
  const AccessRules rules{.origins = {"https://lab.example"}};
  const auto status_of = [&](const std::string& origin, const std::string& method) {
    return status_under(
        rules, {.method = method, .headers = {{"host", "127.0.0.1:8080"}, {"origin", origin}}});
  };
  for (const char* method : {"GET", "POST", "OPTIONS"}) {
    EXPECT_EQ(status_of("https://lab.example", method), 200) << method;
    EXPECT_EQ(status_of("http://127.0.0.1:8080", method), 200) << method;
    for (const char* origin :
         {"null", "https://evil.example", "http://lab.example", "https://lab.example:1",
          "http://127.0.0.1", "http://127.0.0.1:8081"})
      EXPECT_EQ(status_of(origin, method), 403) << method << origin;
  }
}

TEST(AccessTest, TellsBrowsersWhichPagesMayUseIt) {
  const AccessRules rules{.keys = keys_of({"key"}),
                          .origins = {"https://a.example", "https://b.example"}};
  const Headers origin{{"origin", "https://b.example"}};
  for (const char* path : {"/v1/models", "/stream"}) {
    const auto plain = answer_under(
        rules, {.path = path, .headers = {origin[0], {"authorization", "Bearer key"}}});
    EXPECT_EQ(plain->response.status, 200);
    EXPECT_EQ(plain->header("access-control-allow-origin"), "https://b.example");
    EXPECT_EQ(plain->header("vary"), "origin");
  }
  // Also an error must be readable by the page.
  EXPECT_EQ(answer_under(rules, {.headers = origin})->header("access-control-allow-origin"),
            "https://b.example");
  // Browsers send no key in a preflight request.
  const auto preflight = answer_under(
      rules,
      {.method = "OPTIONS", .headers = {origin[0], {"access-control-request-method", "POST"}}});
  EXPECT_EQ(preflight->response.status, 204);
  EXPECT_EQ(preflight->header("access-control-allow-methods"), "GET, POST");
  EXPECT_EQ(preflight->header("access-control-allow-headers"), "*, authorization");
  EXPECT_EQ(answer_under(rules, {.headers = {{"authorization", "Bearer key"}}})
                ->header("access-control-allow-origin"),
            "");
}

TEST(AccessTest, RefusesOtherNamesOfALoopbackServer) {
  const std::vector<std::string> origins{"https://images.example:444"};
  const AccessRules rules{.hosts = loopback_hosts("127.0.0.5", origins)};
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:80",
                           "[::1]", "127.0.0.5", "images.example", "images.example:80", ""})
    EXPECT_EQ(status_under(rules, {.headers = {{"host", host}}}), 200) << host;
  for (const char* host : {"evil.example", "evil.example:8080", "localhost.evil.example",
                           "127.0.0.11", "[::2]", "[", "x@localhost", "localhost@x"})
    EXPECT_EQ(status_under(rules, {.headers = {{"host", host}}}), 403) << host;
  EXPECT_EQ(status_under({}, {.headers = {{"host", "evil.example"}}}), 200);
}

TEST(AccessTest, KnowsOrigins) {
  for (const char* origin : {"http://a", "https://a.example:8080", "http://[::1]:80"})
    EXPECT_TRUE(is_origin(origin)) << origin;
  for (const char* origin : {"", "*", "a.example", "https://", "ftp://a", "https://a/",
                             "https://a\r\nb", "https://a, https://b"})
    EXPECT_FALSE(is_origin(origin)) << origin;
}

}  // namespace
}  // namespace dalle
