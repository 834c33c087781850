#include "core/utf8.h"

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

namespace dalle {
namespace {

/// The encoding by definition: the bits of the code point spread over 1 to 4 bytes.
std::string encode(uint32_t number, int length) {
  if (length == 1) return {static_cast<char>(number)};
  constexpr uint32_t kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  std::string bytes(1, static_cast<char>(kLead[length] | (number >> (6 * (length - 1)))));
  for (int k = length - 2; k >= 0; --k)
    bytes += static_cast<char>(0x80 | ((number >> (6 * k)) & 0x3f));
  return bytes;
}

int shortest_length(uint32_t number) {
  return number < 0x80 ? 1 : number < 0x800 ? 2 : number < 0x10000 ? 3 : 4;
}

TEST(Utf8, AcceptsExactlyTheShortestEncodings) {
  for (uint32_t number = 0; number < 0x120000; ++number) {
    const bool is_unicode = number < 0x110000 && (number < 0xd800 || number > 0xdfff);
    const int shortest = shortest_length(number);
    for (int length = shortest; length <= 4; ++length) {
      const std::string text = "ab" + encode(number, length);
      const bool expected = is_unicode && length == shortest;
      ASSERT_EQ(first_invalid_utf8(text), expected ? text.size() : 2) << number << " " << length;
    }
  }
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(first_invalid_utf8(""), 0);
  EXPECT_EQ(first_invalid_utf8("\xe2\x96\x81\x80"), 3);         // a continuation byte alone
  EXPECT_EQ(first_invalid_utf8("a\xe2\x96"), 1);                // truncated
  EXPECT_EQ(first_invalid_utf8("a\xe2\x96z"), 1);               // interrupted
  EXPECT_EQ(first_invalid_utf8(std::string("a\0\xff", 3)), 2);  // NUL is a character
  EXPECT_EQ(first_invalid_utf8("\xf8\x88\x80\x80\x80"), 0);     // a five-byte form
}

TEST(Utf8, APrefixDoesNotSplitCharacters) {
  const std::string text = "a\xc3\xa9\xe2\x96\x81\xf0\x9f\x98\x80z";
  const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (size_t size = 0; size < std::size(expected); ++size)
    EXPECT_EQ(utf8_prefix(text, size), text.substr(0, expected[size])) << size;
}

}  // namespace
}  // namespace dalle
