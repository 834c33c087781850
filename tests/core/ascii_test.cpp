#include "core/ascii.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(AsciiTest, SplitsWordsAtAnyWhitespace) {
  EXPECT_THAT(split_words(" a  red\tcircle\n"), testing::ElementsAre("a", "red", "circle"));
  EXPECT_THAT(split_words(" \n"), testing::IsEmpty());
}

}  // namespace
}  // namespace dalle
