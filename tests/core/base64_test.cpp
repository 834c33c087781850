#include "core/base64.h"

#include <gtest/gtest.h>

namespace dalle {
namespace {

// RFC 4648, section 10.
TEST(Base64Test, AgreesWithTheStandard) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
}

TEST(Base64Test, EncodesAllBytes) {
  EXPECT_EQ(base64(std::string_view("\x00\xff\xfe", 3)), "AP/+");
}

TEST(Base64Test, DecodesWhatItEncodes) {
  std::string bytes;
  for (int length = 0; length < 300; ++length) {
    EXPECT_EQ(decode_base64(base64(bytes)), bytes);
    bytes += static_cast<char>(length * 37);
  }
}

TEST(Base64Test, IgnoresLineBreaks) {
  EXPECT_EQ(decode_base64("Zm9v\r\nYm Fy\n"), "foobar");
}

TEST(Base64Test, RefusesWhatIsNotBase64) {
  for (const char* text :
       {"Z", "Zg", "Zg=", "Zg===", "Z===", "=", "====", "Zg==Zg==", "Zm9v=", "Zm9-", "Zm\xff"})
    EXPECT_EQ(decode_base64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace dalle
