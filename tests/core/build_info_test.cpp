#include "core/build_info.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

using testing::MatchesRegex;

TEST(BuildInfo, NamesVersionsAndRevision) {
  const BuildInfo info = build_info();
  EXPECT_THAT(std::string(info.version), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_THAT(std::string(info.git_revision), MatchesRegex("[0-9a-f]{40}(-dirty)?|unknown"));
  EXPECT_THAT(std::string(info.compiler), MatchesRegex("[A-Za-z]+ [0-9]+\\..*"));
  EXPECT_THAT(std::string(info.libtorch), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_THAT(std::string(info.cuda), MatchesRegex("([0-9]+\\.[0-9.]+)?"));
}

}  // namespace
}  // namespace dalle
