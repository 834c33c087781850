#include "dalle/data/exif.h"

#include <array>

#include <gtest/gtest.h>

#include "test_pictures.h"

namespace dalle {
namespace {

TEST(ExifOrientation, IsReadInBothByteOrders) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    EXPECT_EQ(exif_orientation(tiff_with_orientation(orientation, false)), orientation);
    EXPECT_EQ(exif_orientation(tiff_with_orientation(orientation, true)), orientation);
  }
}

TEST(ExifOrientation, IsUprightWhereItIsAbsentOrOutOfRange) {
  EXPECT_EQ(exif_orientation(""), 1);
  EXPECT_EQ(exif_orientation("no TIFF block at all"), 1);
  EXPECT_EQ(exif_orientation(tiff_with_orientation(0, true)), 1);
  EXPECT_EQ(exif_orientation(tiff_with_orientation(9, true)), 1);
  std::string another_tag = tiff_with_orientation(6, false);
  another_tag[10] = '\x13';
  EXPECT_EQ(exif_orientation(another_tag), 1);
}

TEST(ExifOrientation, SurvivesBlocksThatAreCutAnywhereOrPointOutside) {
  for (const bool is_big_endian : {false, true}) {
    const std::string whole = tiff_with_orientation(6, is_big_endian);
    constexpr size_t kValueEnd = 8 + 2 + 10;
    for (size_t length = 0; length < whole.size(); ++length)
      EXPECT_EQ(exif_orientation(whole.substr(0, length)), length < kValueEnd ? 1 : 6) << length;
    std::string astray = whole;
    astray.replace(4, 4, "\xff\xff\xff\xff");
    EXPECT_EQ(exif_orientation(astray), 1);
  }
}

/// A picture whose pixels are told apart by their red level.
Picture levels(int64_t width, int64_t height, const std::vector<uint8_t>& reds) {
  Picture picture;
  picture.width = width;
  picture.height = height;
  for (const uint8_t red : reds) picture.pixels.insert(picture.pixels.end(), {red, 0, 0});
  return picture;
}

TEST(Upright, PutsEveryOrientationsFirstRowAndColumnWhereTheStandardSays) {
  // Stored:  1 2 3
  //          4 5 6
  // The standard names the sides that row 0 and column 0 belong to: 1 top left, 2 top right,
  // 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom.
  const Picture stored = levels(3, 2, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(upright(stored, 1), stored);
  EXPECT_EQ(upright(stored, 2), levels(3, 2, {3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(upright(stored, 3), levels(3, 2, {6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(upright(stored, 4), levels(3, 2, {4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(upright(stored, 5), levels(2, 3, {1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(upright(stored, 6), levels(2, 3, {4, 1, 5, 2, 6, 3}));
  EXPECT_EQ(upright(stored, 7), levels(2, 3, {6, 3, 5, 2, 4, 1}));
  EXPECT_EQ(upright(stored, 8), levels(2, 3, {3, 6, 2, 5, 1, 4}));
}

TEST(Upright, UndoesItselfThroughTheInverseOrientation) {
  const std::array<int, 9> inverse = {0, 1, 2, 3, 4, 5, 8, 7, 6};
  const Picture picture = gradient_picture(7, 5);
  for (int orientation = 1; orientation <= 8; ++orientation)
    EXPECT_EQ(upright(upright(picture, orientation), inverse[orientation]), picture);
}

}  // namespace
}  // namespace dalle
