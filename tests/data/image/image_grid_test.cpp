#include "data/image/image_grid.h"

#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace dalle {
namespace {

RgbImage plain(uint8_t value, int64_t width = 3, int64_t height = 2) {
  return {.width = width,
          .height = height,
          .pixels = std::vector<uint8_t>(static_cast<size_t>(width * height * 3), value)};
}

uint8_t at(const RgbImage& image, int64_t x, int64_t y) {
  return image.pixels[static_cast<size_t>((y * image.width + x) * 3)];
}

TEST(ImageGrid, ArrangesImagesInRows) {
  const std::vector<RgbImage> images = {plain(1), plain(2), plain(3)};
  const RgbImage grid = image_grid(images, 2);
  EXPECT_EQ(grid.width, 2 + 3 + 2 + 3 + 2);
  EXPECT_EQ(grid.height, 2 + 2 + 2 + 2 + 2);
  EXPECT_EQ(at(grid, 2, 2), 1);
  EXPECT_EQ(at(grid, 7, 3), 2);
  EXPECT_EQ(at(grid, 4, 7), 3);
  EXPECT_EQ(at(grid, 7, 7), 208);  // no image there
  EXPECT_EQ(at(grid, 5, 2), 208);  // between images
}

TEST(ImageGrid, ContainsTheImagesPlacedSoFar) {
  ImageGrid grid(4, 2, 3, 2);
  grid.place(2, plain(7));
  EXPECT_EQ(grid.image().height, 10);
  EXPECT_EQ(at(grid.image(), 2, 6), 7);
  EXPECT_EQ(at(grid.image(), 2, 2), 208);
  EXPECT_THROW(grid.place(0, plain(7, 2, 3)), Error);
}

TEST(ImageGrid, IsNoWiderThanItsImages) {
  const std::vector<RgbImage> one = {plain(1)};
  EXPECT_EQ(image_grid(one, 8).width, 7);
}

TEST(ImageGrid, RejectsNoImagesAndDifferentSizes) {
  EXPECT_THROW(image_grid({}, 2), Error);
  const std::vector<RgbImage> mixed = {plain(1), plain(2, 4, 2)};
  EXPECT_THROW(image_grid(mixed, 2), Error);
}

}  // namespace
}  // namespace dalle
