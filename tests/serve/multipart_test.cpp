#include "serve/http/multipart.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

using testing::HasSubstr;

constexpr const char* kType = "multipart/form-data; boundary=b";

std::string field(const std::string& headers, const std::string& content) {
  return "--b\r\n" + headers + "\r\n\r\n" + content + "\r\n";
}

std::string named(const std::string& name, const std::string& content) {
  return field("Content-Disposition: form-data; name=\"" + name + "\"", content);
}

std::string multipart_error(const std::string& body, const MultipartLimits& limits = {}) {
  return error_of([&] { parse_multipart(kType, body, limits); });
}

TEST(MultipartTest, ReadsFieldsAndFiles) {
  const std::string body = named("prompt", "a red circle") +
                           field(
                               "content-type: Image/PNG; x=y\r\ncontent-DISPOSITION: form-data; "
                               "filename=\"C:\\a \\\"b\\\";.png\" ; name=image[]\r\nX-Other: ;;;",
                               std::string("\x89PNG\r\n\0--b", 10)) +
                           named("prompt", "") + "--b--\r\n";
  const std::vector<FormPart> parts = parse_multipart(kType, body);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].name, "prompt");
  EXPECT_EQ(parts[0].content, "a red circle");
  EXPECT_EQ(parts[1].name, "image[]");
  EXPECT_EQ(parts[1].content, std::string("\x89PNG\r\n\0--b", 10));
  EXPECT_EQ(parts[2].name, "prompt");
  EXPECT_EQ(parts[2].content, "");
}

TEST(MultipartTest, AcceptsAllFormsOfTheBoundary) {
  for (const std::string type :
       {"multipart/form-data; boundary=b", "Multipart/Form-Data;charset=utf-8;BOUNDARY=\"b\"",
        "multipart/form-data ; boundary = b ;"})
    EXPECT_EQ(parse_multipart(type, named("x", "y") + "--b--").at(0).content, "y") << type;
  const std::string strange = "a b:'()+_,-./:=?";
  EXPECT_EQ(
      parse_multipart("multipart/form-data; boundary=\"" + strange + "\"",
                      "--" + strange + "\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--" +
                          strange + "--\r\n")
          .at(0)
          .content,
      "y");
}

TEST(MultipartTest, IgnoresWhatIsAroundTheParts) {
  const std::string body = "preamble --b\r\n" + named("x", "y") + "--b--\r\nepilogue\r\n--b\r\n";
  const std::vector<FormPart> parts = parse_multipart(kType, body);
  ASSERT_EQ(parts.size(), 1U);
  EXPECT_EQ(parts[0].content, "y");
  EXPECT_TRUE(parse_multipart(kType, "--b--\r\n").empty());
}

TEST(MultipartTest, TakesOnlyWholeLinesForDelimiters) {
  for (const std::string content : {"--bb", "x--b\r\n", "\r\n--bb\r\n", "\n--b\r\n", "\r\n-b\r\n"})
    EXPECT_EQ(parse_multipart(kType, named("x", content) + "--b--\r\n").at(0).content, content);
  EXPECT_EQ(parse_multipart(kType, "--b \t\r\n" + named("x", "y").substr(5) + "--b--\r\n").size(),
            1U);
}

TEST(MultipartTest, SaysWhatIsWrongWithTheContentType) {
  const auto error_of_type = [](const std::string& type) {
    return error_of([&] { parse_multipart(type, "--b--"); });
  };
  EXPECT_EQ(error_of_type("application/json"), "content-type: expected multipart/form-data");
  EXPECT_EQ(error_of_type(""), "content-type: expected multipart/form-data");
  EXPECT_EQ(error_of_type("multipart/form-data"), "content-type: found no boundary");
  EXPECT_EQ(error_of_type("multipart/form-data; boundary="),
            "content-type: found a boundary of 0 bytes, expected 1 to 70");
  EXPECT_EQ(error_of_type("multipart/form-data; boundary=" + std::string(71, 'a')),
            "content-type: found a boundary of 71 bytes, expected 1 to 70");
  EXPECT_EQ(error_of_type("multipart/form-data; boundary=\"b"),
            "content-type: found a quoted value without its closing quote");
  EXPECT_EQ(error_of_type("multipart/form-data; boundary=b; boundary=c"),
            "content-type: found a parameter twice");
}

TEST(MultipartTest, SaysWhatIsWrongWithAPart) {
  const std::string end = "--b--\r\n", disposition = "Content-Disposition: form-data; name=x";
  EXPECT_EQ(multipart_error(""), "multipart: found no line with the boundary of the content type");
  EXPECT_EQ(multipart_error("--c\r\n"),
            "multipart: found no line with the boundary of the content type");
  EXPECT_EQ(multipart_error(named("x", "y")), "multipart: part 1 is truncated");
  EXPECT_EQ(multipart_error(named("x", "y") + named("x", "y") + "--b"),
            "multipart: part 2 is truncated");
  EXPECT_EQ(multipart_error("--b\r\n" + disposition + "\r\n" + end),
            "multipart: part 1: the empty line after the headers is missing");
  EXPECT_EQ(multipart_error(field("X: y", "z") + end),
            "multipart: part 1: found no name, expected content-disposition: form-data; name=...");
  EXPECT_EQ(multipart_error(field("Content-Disposition: form-data", "z") + end),
            "multipart: part 1: found no name, expected content-disposition: form-data; name=...");
  EXPECT_EQ(multipart_error(field("Content-Disposition: attachment; name=x", "z") + end),
            "multipart: part 1: content-disposition: expected form-data");
  EXPECT_EQ(multipart_error(field(disposition + "\r\n" + disposition, "z") + end),
            "multipart: part 1: found content-disposition twice");
  EXPECT_EQ(multipart_error(field(disposition + "\r\nno colon", "z") + end),
            "multipart: part 1: found a header without a colon");
  EXPECT_EQ(multipart_error(field(disposition + "; filename", "z") + end),
            "multipart: part 1: found a parameter without a value");
  EXPECT_EQ(multipart_error(field(disposition + "; filename=\"a\" b", "z") + end),
            "multipart: part 1: found text after a parameter, expected a semicolon");
  EXPECT_EQ(
      multipart_error(field(disposition + "\r\nContent-Transfer-Encoding: base64", "z") + end),
      "multipart: part 1: content-transfer-encoding: expected binary");
  EXPECT_EQ(multipart_error(named("a\nb", "z") + end),
            "multipart: part 1: found a control character in a header");
  EXPECT_EQ(multipart_error(named("a\x01", "z") + end),
            "multipart: part 1: name: found a control character");
  EXPECT_EQ(multipart_error(named("\xff", "z") + end), "multipart: part 1: name: expected UTF-8");
  EXPECT_EQ(multipart_error(field(disposition + "; filename=\xff", "z") + end),
            "multipart: part 1: filename: expected UTF-8");
}

TEST(MultipartTest, BoundsPartsAndHeaders) {
  std::string body;
  for (int i = 0; i < 3; ++i) body += named("x", "y");
  body += "--b--\r\n";
  EXPECT_EQ(parse_multipart(kType, body, {.parts = 3}).size(), 3U);
  EXPECT_EQ(multipart_error(body, {.parts = 2}), "multipart: found more than 2 parts");
  EXPECT_EQ(multipart_error(body, {.header_bytes = 40}),
            "multipart: part 1: the headers are too long, expected at most 40 bytes");
  EXPECT_EQ(multipart_error(named(std::string(100'000, 'x'), "y") + "--b--"),
            "multipart: part 1: the headers are too long, expected at most 4096 bytes");
}

TEST(MultipartTest, EveryTruncatedFormIsRefused) {
  const std::string body = named("x", "y") + named("z", "\r\n") + "--b--";
  for (size_t size = 0; size < body.size(); ++size)
    EXPECT_NE(multipart_error(body.substr(0, size)), "no error") << size;
}

}  // namespace
}  // namespace dalle
