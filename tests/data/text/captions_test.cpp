#include "data/text/captions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(Captions, AreTheLinesThatAreNotBlank) {
  EXPECT_THAT(parse_captions("a cat\nthe same cat\n"), ElementsAre("a cat", "the same cat"));
  EXPECT_THAT(parse_captions("one"), ElementsAre("one"));
  EXPECT_THAT(parse_captions("\n\n  a cat \t\n   \n\none\n\n"), ElementsAre("a cat", "one"));
  EXPECT_THAT(parse_captions(""), IsEmpty());
  EXPECT_THAT(parse_captions(" \n\t\n"), IsEmpty());
}

TEST(Captions, HandleEveryLineEndingAndTheByteOrderMark) {
  EXPECT_THAT(parse_captions("\xef\xbb\xbf"
                             "a\r\nb\rc\n\r\nd"),
              ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(parse_captions("\xef\xbb\xbf"), IsEmpty());
}

TEST(Captions, KeepAllUnicodeCharacters) {
  for (const std::string& character :
       {"\x7f"s, "\xc2\x80"s, "\xdf\xbf"s, "\xe0\xa0\x80"s, "\xed\x9f\xbf"s, "\xee\x80\x80"s,
        "\xef\xbf\xbf"s, "\xf0\x90\x80\x80"s, "\xf4\x8f\xbf\xbf"s})
    EXPECT_THAT(parse_captions("a" + character + "b"), ElementsAre("a" + character + "b"));
}

TEST(Captions, RejectInvalidUtf8AndNameItsOffset) {
  EXPECT_EQ(error_of([] { parse_captions("caf\xe9 au lait"); }),
            "captions: byte 3 (0xe9) is not UTF-8");
  for (const std::string& wrong :
       {"\x80"s, "\xc0\xaf"s, "\xc1\xbf"s, "\xe0\x9f\xbf"s, "\xed\xa0\x80"s, "\xf0\x8f\xbf\xbf"s,
        "\xf4\x90\x80\x80"s, "\xf5\x80\x80\x80"s, "\xff"s, "\xe2\x82"s, "\xc3"s, "\xe2\x28\xa1"s})
    EXPECT_THAT(error_of([&] { parse_captions("a" + wrong); }),
                testing::StartsWith("captions: byte 1 (0x"));
}

TEST(Captions, RejectUtf16AndExplainHowToConvertIt) {
  for (const std::string& marked : {"\xff\xfe"
                                    "a\0"s,
                                    "\xfe\xff\0a"s})
    EXPECT_EQ(error_of([&] { parse_captions(marked); }),
              "captions: found UTF-16, expected UTF-8; convert it with iconv -f utf-16 -t utf-8");
  EXPECT_EQ(error_of([] { parse_captions("a\0 \0c\0"s); }),
            "captions: byte 1 is zero, expected UTF-8; if this is UTF-16, convert it with iconv -f "
            "utf-16le -t utf-8");
  EXPECT_THAT(error_of([] { parse_captions("\0a\0 \0c"s); }), testing::HasSubstr("utf-16be"));
}

TEST(JsonCaptions, AreTheCaptionKeyAlone) {
  EXPECT_THAT(parse_json_captions(R"({"caption": " a \"red\" cat ", "url": "http://x"})"),
              ElementsAre("a \"red\" cat"));
  EXPECT_THAT(parse_json_captions(R"({"caption": ["a", "", "b"]})"), ElementsAre("a", "b"));
  EXPECT_THAT(parse_json_captions(R"({"caption": null})"), IsEmpty());
  EXPECT_THAT(parse_json_captions(R"({"url": "http://x"})"), IsEmpty());
  EXPECT_THAT(parse_json_captions("\xef\xbb\xbf{\"caption\": \"\\u00e9\"}"), ElementsAre("é"));
}

TEST(JsonCaptions, AcceptTheJsonOfPython) {
  EXPECT_THAT(parse_json_captions(
                  R"({"similarity": NaN, "x": [Infinity, -Infinity], "caption": "NaN bread"})"),
              ElementsAre("NaN bread"));
  EXPECT_THAT(parse_json_captions(R"({"caption": NaN})"), IsEmpty());
  EXPECT_THAT(parse_json_captions(R"({"caption": ["a", null, NaN, "b"]})"), ElementsAre("a", "b"));
  EXPECT_THAT(parse_json_captions(R"({"title": "\ud83d", "caption": "a \ud83d\ude00 b"})"),
              ElementsAre("a \xf0\x9f\x98\x80 b"));
  EXPECT_THAT(parse_json_captions(R"({"caption": "cut \ud83d"})"), ElementsAre("cut \xef\xbf\xbd"));
  EXPECT_THAT(parse_json_captions(R"({"caption": "\ude00\ud83d\"} \\"})"),
              ElementsAre("\xef\xbf\xbd\xef\xbf\xbd\"} \\"));
  EXPECT_THAT(parse_json_captions("{\"url\": \"caf\xe9\", \"caption\": \"caf\xc3\xa9\"}"),
              ElementsAre("caf\xc3\xa9"));
}

TEST(JsonCaptions, RejectOtherJson) {
  for (const std::string text : {"{\"caption\": ", "{\"caption\": \"\\", "{\"caption\": \"\\ud83d",
                                 "", "{\"caption\": NaNa}", "{\"caption\": \"a\"} x"})
    EXPECT_EQ(error_of([&] { parse_json_captions(text); }),
              "captions: not a JSON file, expected a JSON object")
        << text;
  EXPECT_EQ(error_of([] { parse_json_captions("[1]"); }),
            "captions: a JSON array, expected a JSON object");
}

TEST(JsonCaptions, RejectAZeroByteAfterTheRecord) {
  EXPECT_THAT(error_of([] { parse_json_captions("{\"caption\": \"a\"}\0 x"s); }),
              testing::HasSubstr("byte 16 is zero"));
}

TEST(JsonCaptions, RejectCaptionsOfOtherTypes) {
  EXPECT_EQ(error_of([] { parse_json_captions(R"({"caption": 5})"); }),
            "captions: \"caption\" has type number, expected a string or a list of strings");
  EXPECT_EQ(error_of([] { parse_json_captions(R"({"caption": ["a", {}]})"); }),
            "captions: \"caption\" has type object, expected a string or a list of strings");
  EXPECT_THAT(error_of([] { parse_json_captions("{\"caption\": \"\xe9\"}"); }),
              testing::HasSubstr("is not UTF-8"));
  EXPECT_THAT(error_of([] { parse_json_captions(R"({"caption": "a\u0000"})"); }),
              testing::HasSubstr("zero byte"));
}

}  // namespace
}  // namespace dalle
