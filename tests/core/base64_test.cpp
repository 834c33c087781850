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

}  // namespace
}  // namespace dalle
