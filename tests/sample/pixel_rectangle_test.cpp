#include "sample/pixel_rectangle.h"

#include <optional>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(PixelRectangle, IsParsedFromFourIntegers) {
  EXPECT_EQ(parse_rectangle("1,2,30,40"), (PixelRectangle{1, 2, 30, 40}));
  EXPECT_EQ(parse_rectangle(" -1, 2 ,3,4"), (PixelRectangle{-1, 2, 3, 4}));
  for (const char* text : {"", "1", "1,2,3", "1,2,3,4,5", "1,2,3,", "1,,3,4", "a,2,3,4",
                           "1.0,2,3,4", "1,2,3,99999999999999999999"})
    EXPECT_EQ(parse_rectangle(text), std::nullopt) << text;
}

}  // namespace
}  // namespace dalle
