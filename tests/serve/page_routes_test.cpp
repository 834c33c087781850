#include <filesystem>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "route_answers.h"
#include "serve/api_routes.h"
#include "serve/page_files.h"

namespace dalle {
namespace {

using testing::HasSubstr;
using testing::Not;

class PageRoutesTest : public testing::Test {
 protected:
  PageRoutesTest() { add_page_routes(routes_); }

  Routes routes_;
};

TEST_F(PageRoutesTest, EveryFileIsServedAsItIsInTheFolder) {
  std::set<std::string> names;
  for (const PageFile& file : page_files()) {
    const std::string name(file.name);
    names.insert(name);
    const HttpResponse response = answer_to(routes_, name == "index.html" ? "/" : "/" + name);
    EXPECT_EQ(response.status, 200) << name;
    EXPECT_EQ(response.body, read_file("src/serve/page/" + name)) << name;
  }
  for (const auto& entry : std::filesystem::directory_iterator("src/serve/page"))
    EXPECT_TRUE(names.contains(entry.path().filename().string())) << entry.path();
}

TEST_F(PageRoutesTest, ThePolicyAllowsNothingOfOthersAndNothingInline) {
  const HttpResponse response = answer_to(routes_, "/");
  const std::string policy = header_of(response, "content-security-policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_THAT(policy, Not(HasSubstr("http")));
}

TEST_F(PageRoutesTest, ThePageNamesNoOtherServer) {
  for (const PageFile& file : page_files()) {
    EXPECT_THAT(std::string(file.content), Not(HasSubstr("http://"))) << file.name;
    EXPECT_THAT(std::string(file.content), Not(HasSubstr("https://"))) << file.name;
    EXPECT_THAT(std::string(file.content), Not(HasSubstr("innerHTML"))) << file.name;
  }
}

TEST_F(PageRoutesTest, TypesAreThoseThatBrowsersRequire) {
  EXPECT_EQ(answer_to(routes_, "/").content_type, "text/html; charset=utf-8");
  EXPECT_EQ(answer_to(routes_, "/page.css").content_type, "text/css; charset=utf-8");
  EXPECT_EQ(answer_to(routes_, "/page.js").content_type, "text/javascript; charset=utf-8");
}

TEST_F(PageRoutesTest, AFileThatTheBrowserHasIsNotSentAgain) {
  const std::string etag = header_of(answer_to(routes_, "/page.js"), "etag");
  const HttpResponse again = answer_to(routes_, "/page.js", "\"other\", W/" + etag);
  EXPECT_EQ(again.status, 304);
  EXPECT_EQ(again.body, "");
  EXPECT_EQ(header_of(again, "etag"), etag);
  EXPECT_EQ(header_of(again, "cache-control"), "no-cache");
  EXPECT_EQ(answer_to(routes_, "/page.css", etag).status, 200);
}

TEST_F(PageRoutesTest, NothingElseOfTheFolderIsServed) {
  for (const char* path : {"/index.html", "/page", "/page.js/", "/../page.js", "/CMakeLists.txt"})
    EXPECT_EQ(answer_to(routes_, path).status, 404) << path;
}

}  // namespace
}  // namespace dalle
