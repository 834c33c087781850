#include "serve/http/request_target.h"

#include <string>

#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

TEST(RequestTargetTest, DecodesThePathWithoutTheQuery) {
  EXPECT_EQ(parse_request_target("/a%2fb/%C3%A4?x=1%262&y=a+b%2B&%C3%A4&x=3&&=e?"), "/a/b/ä");
  EXPECT_EQ(parse_request_target("/a+b"), "/a+b");
}

TEST(RequestTargetTest, AcceptsTheFormThatProxiesGet) {
  EXPECT_EQ(parse_request_target("http://example.org:80/x?y=/z"), "/x");
  EXPECT_EQ(parse_request_target("HTTPS://example.org/x"), "/x");
  EXPECT_EQ(parse_request_target("*"), "*");
}

TEST(RequestTargetTest, TakesDotsForText) {
  EXPECT_EQ(parse_request_target("/../%2e%2e/etc/passwd"), "/../../etc/passwd");
}

TEST(RequestTargetTest, RefusesOtherForms) {
  for (const char* target :
       {"", "x", "example.org:80", "http://example.org", "http://e?x", "ftp://e/x"})
    EXPECT_NE(error_of([&] { parse_request_target(target); }), "no error") << target;
}

TEST(RequestTargetTest, RefusesWhatIsNoText) {
  for (const char* target :
       {"/%",       "/%4",  "/%4x", "/%x4",  "/%-1",    "/%00",    "/%0a",     "/%7f",
        "/%ff",     "/%c3", "/?%",  "/?a=%", "/?a=%00", "/?%1b=a", "/?%c0%80", "/?%c3=%a4",
        "/?a=%4&1", "/ ",   "/\t",  "/\x7f", "/ä",      "/#a"})
    EXPECT_NE(error_of([&] { parse_request_target(target); }), "no error") << target;
}

}  // namespace
}  // namespace dalle
