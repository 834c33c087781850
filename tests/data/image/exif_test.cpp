#include "data/image/exif.h"

#include <array>

#include <gtest/gtest.h>

#include "data/test_images.h"

namespace dalle {
namespace {

TEST(ExifOrientation, IsReadInBothByteOrders) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    EXPECT_EQ(exif_orientation(tiff_with_orientation(orientation, false)), orientation);
    EXPECT_EQ(exif_orientation(tiff_with_orientation(orientation, true)), orientation);
  }
}

TEST(ExifOrientation, IsUprightIfMissingOrOutOfRange) {
  EXPECT_EQ(exif_orientation(""), 1);
  EXPECT_EQ(exif_orientation("no TIFF block at all"), 1);
  EXPECT_EQ(exif_orientation(tiff_with_orientation(0, true)), 1);
  EXPECT_EQ(exif_orientation(tiff_with_orientation(9, true)), 1);
  std::string another_tag = tiff_with_orientation(6, false);
  another_tag[10] = '\x13';
  EXPECT_EQ(exif_orientation(another_tag), 1);
}

TEST(ExifOrientation, SurvivesTruncatedAndCorruptBlocks) {
  for (const bool is_big_endian : {false, true}) {
    const std::string intact = tiff_with_orientation(6, is_big_endian);
    constexpr size_t kValueEnd = 8 + 2 + 10;
    for (size_t length = 0; length < intact.size(); ++length)
      EXPECT_EQ(exif_orientation(intact.substr(0, length)), length < kValueEnd ? 1 : 6) << length;
    std::string astray = intact;
    astray.replace(4, 4, "\xff\xff\xff\xff");
    EXPECT_EQ(exif_orientation(astray), 1);
  }
}

/// An image whose pixels differ in their red level.
RgbImage levels(int64_t width, int64_t height, const std::vector<uint8_t>& reds) {
  RgbImage image;
  image.width = width;
  image.height = height;
  for (const uint8_t red : reds) image.pixels.insert(image.pixels.end(), {red, 0, 0});
  return image;
}

TEST(Upright, PlacesTheFirstRowAndColumnAccordingToTheStandard) {
  // Stored:  1 2 3
  //          4 5 6
  // The standard names the sides that row 0 and column 0 belong to: 1 top left, 2 top right,
  // 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom.
  const RgbImage stored = levels(3, 2, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(upright(stored, 1), stored);
  EXPECT_EQ(upright(stored, 2), levels(3, 2, {3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(upright(stored, 3), levels(3, 2, {6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(upright(stored, 4), levels(3, 2, {4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(upright(stored, 5), levels(2, 3, {1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(upright(stored, 6), levels(2, 3, {4, 1, 5, 2, 6, 3}));
  EXPECT_EQ(upright(stored, 7), levels(2, 3, {6, 3, 5, 2, 4, 1}));
  EXPECT_EQ(upright(stored, 8), levels(2, 3, {3, 6, 2, 5, 1, 4}));
}

TEST(Upright, IsUndoneByTheInverseOrientation) {
  const std::array<int, 9> inverse = {0, 1, 2, 3, 4, 5, 8, 7, 6};
  const RgbImage image = gradient_image(7, 5);
  for (int orientation = 1; orientation <= 8; ++orientation)
    EXPECT_EQ(upright(upright(image, orientation), inverse[orientation]), image);
}

}  // namespace
}  // namespace dalle
