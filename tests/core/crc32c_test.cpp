#include "core/crc32c.h"

#include <string>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(Crc32c, MatchesThePublishedVectors) {  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aa);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43);
  std::string ascending;
  for (char byte = 0; byte < 32; ++byte) ascending += byte;
  EXPECT_EQ(crc32c(ascending), 0x46dd794e);
  EXPECT_EQ(crc32c(std::string(ascending.rbegin(), ascending.rend())), 0x113fdb5c);
}

TEST(Crc32c, MatchesTheCatalogOfChecks) {
  EXPECT_EQ(crc32c(""), 0);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283);
}

}  // namespace
}  // namespace dalle
