#include "eval/segmentation.h"

#include <algorithm>
#include <string_view>

#include <gtest/gtest.h>

namespace dalle {
namespace {

PixelMask mask_of(const std::vector<std::string_view>& rows) {
  PixelMask mask{.height = static_cast<int64_t>(rows.size()),
                 .width = static_cast<int64_t>(rows.front().size()),
                 .pixels = {}};
  for (const std::string_view row : rows)
    for (const char c : row) mask.pixels.push_back(c == '#');
  return mask;
}

TEST(SegmentationTest, ResizingToTheSameSideChangesNothing) {
  RgbImage image{.width = 5, .height = 5, .pixels = {}};
  for (int i = 0; i < 75; ++i) image.pixels.push_back(static_cast<uint8_t>(37 * i % 256));
  const ColorPlanes planes = resize_bicubic(image, 5);
  for (size_t i = 0; i < 25; ++i)
    for (size_t channel = 0; channel < 3; ++channel)
      EXPECT_FLOAT_EQ(planes.planes[channel][i], image.pixels[3 * i + channel]);
}

TEST(SegmentationTest, ResizingKeepsRampsAndFlatImages) {
  RgbImage ramp{.width = 16, .height = 16, .pixels = {}};
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 16; ++column)
      for (const int value : {10 * column, 10 * row, 90})
        ramp.pixels.push_back(static_cast<uint8_t>(value));
  for (const int64_t side : {8, 64}) {
    const ColorPlanes planes = resize_bicubic(ramp, side);
    const double scale = 16.0 / static_cast<double>(side);
    for (int64_t row = side / 4; row < side * 3 / 4; ++row)  // away from the repeated border
      for (int64_t column = side / 4; column < side * 3 / 4; ++column) {
        const auto at = static_cast<size_t>(row * side + column);
        const auto expected = [&](int64_t i) {
          return 10 * ((static_cast<double>(i) + 0.5) * scale - 0.5);
        };
        EXPECT_NEAR(planes.planes[0][at], expected(column), 1e-3);
        EXPECT_NEAR(planes.planes[1][at], expected(row), 1e-3);
        EXPECT_NEAR(planes.planes[2][at], 90, 1e-3);
      }
  }
}

TEST(SegmentationTest, DilationAndErosionAreDual) {
  const PixelMask mask = mask_of({"......", ".###..", ".###..", ".###..", "......"});
  EXPECT_EQ(erode(mask).pixels, mask_of({"......", "......", "..#...", "......", "......"}).pixels);
  EXPECT_EQ(dilate(mask).pixels,
            mask_of({"#####.", "#####.", "#####.", "#####.", "#####."}).pixels);
  EXPECT_EQ(erode(mask_of({"###", "###"})).pixels, mask_of({"###", "###"}).pixels)
      << "what is beyond the border does not count";
}

TEST(SegmentationTest, RegionsAreConnectedByRowsAndColumns) {
  const PixelMask mask = mask_of({"##..#", "##.#.", "....#"});
  const std::vector<Region> regions = connected_regions(mask, 2);
  ASSERT_EQ(regions.size(), 1u) << "diagonal neighbors are not connected";
  EXPECT_EQ(regions[0].top, -1);
  EXPECT_EQ(regions[0].left, -1);
  EXPECT_EQ(regions[0].mask.pixels, mask_of({"....", ".##.", ".##.", "...."}).pixels);
  EXPECT_EQ(connected_regions(mask, 1).size(), 4u);
  EXPECT_TRUE(connected_regions(mask, 5).empty());
}

TEST(SegmentationTest, SplitsAtTheNarrowestPlace) {
  const Region region{.top = 10,
                      .left = 20,
                      .mask = mask_of({"...........", ".###....##.", ".########..", ".###....##.",
                                       "...........", "..........."})};
  const Region blocks{
      .top = 10,
      .left = 20,
      .mask = mask_of({"...........", ".###...###.", ".#########.", ".###...###.", "..........."})};
  EXPECT_TRUE(split_region(region, 1).empty()) << "the right part vanishes";
  const std::vector<Region> parts = split_region(blocks, 1);
  ASSERT_EQ(parts.size(), 2u);
  const auto count = [](const PixelMask& mask) {
    return std::ranges::count(mask.pixels, uint8_t{1});
  };
  EXPECT_EQ(count(parts[0].mask) + count(parts[1].mask), count(blocks.mask));
  EXPECT_NEAR(static_cast<double>(count(parts[0].mask)), 10.5, 0.6);
  EXPECT_EQ(parts[0].left, 20);
  EXPECT_GT(parts[1].left, 23);
}

}  // namespace
}  // namespace dalle
