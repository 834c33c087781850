#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/image/image.h"
#include "data/test_images.h"
#include "error_of.h"

namespace dalle {
namespace {

constexpr CropKind kKinds[] = {CropKind::kDvae, CropKind::kTransformer, CropKind::kCenter};

/// Red grows by `step` per column and green by `step` per row, so the position and scale of a crop
/// can be read from its colors.
RgbImage ruler(int64_t width, int64_t height, double step) {
  RgbImage image;
  image.width = width;
  image.height = height;
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(std::lround(step * static_cast<double>(x))));
      image.pixels.push_back(static_cast<uint8_t>(std::lround(step * static_cast<double>(y))));
      image.pixels.push_back(0);
    }
  return image;
}

/// The extent of a crop of a ruler, in pixels of the ruler, and whether it is mirrored.
struct Window {
  double left, right, top, bottom;
  bool is_mirrored;
};

Window window_of(const RgbImage& crop, double step) {
  const auto level = [&](int64_t x, int64_t y, int64_t channel) {
    return crop.pixels[3 * (y * crop.width + x) + channel] / step;
  };
  const int64_t last = crop.width - 1;
  const double first_red = level(0, 0, 0), last_red = level(last, 0, 0);
  // Levels are those of pixel centers, and a crop of n pixels spans n / (n - 1) times their
  // distance.
  const double half_x = std::abs(last_red - first_red) / static_cast<double>(last) / 2;
  const double half_y = (level(0, last, 1) - level(0, 0, 1)) / static_cast<double>(last) / 2;
  return {.left = std::min(first_red, last_red) - half_x + 0.5,
          .right = std::max(first_red, last_red) + half_x + 0.5,
          .top = level(0, 0, 1) - half_y + 0.5,
          .bottom = level(0, last, 1) + half_y + 0.5,
          .is_mirrored = first_red > last_red};
}

TEST(CropImage, HasTheRequestedSize) {
  SeedStream sizes(11);
  for (int i = 0; i < 300; ++i) {
    const auto size = static_cast<int64_t>(1 + sizes.below(40));
    const auto width = static_cast<int64_t>(size + sizes.below(90));
    const auto height = static_cast<int64_t>(size + sizes.below(90));
    for (const CropKind kind : kKinds) {
      SeedStream random(i);
      const RgbImage crop = crop_image(gradient_image(width, height), size, kind, random);
      EXPECT_EQ(crop.width, size);
      EXPECT_EQ(crop.height, size);
      EXPECT_EQ(std::ssize(crop.pixels), 3 * size * size);
    }
  }
}

TEST(CropImage, IsAFunctionOfItsSeed) {
  const RgbImage image = gradient_image(90, 70);
  for (const CropKind kind : {CropKind::kDvae, CropKind::kTransformer}) {
    std::set<std::vector<uint8_t>> different;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SeedStream first(seed), second(seed);
      const RgbImage crop = crop_image(image, 32, kind, first);
      EXPECT_EQ(crop, crop_image(image, 32, kind, second));
      different.insert(crop.pixels);
    }
    EXPECT_GT(different.size(), 15U);
  }
}

TEST(CropImage, UsesAsManyRandomNumbersForAnyImage) {
  // The state of the stream after a crop must not depend on the size of the image.
  for (const auto& [kind, draws] :
       {std::pair{CropKind::kDvae, 6}, std::pair{CropKind::kTransformer, 5},
        std::pair{CropKind::kCenter, 0}})
    for (const auto& [width, height] :
         {std::pair{32, 32}, std::pair{100, 40}, std::pair{33, 200}}) {
      SeedStream random(5), expected(5);
      crop_image(gradient_image(width, height), 32, kind, random);
      for (int i = 0; i < draws; ++i) expected();
      EXPECT_EQ(random(), expected());
    }
}

TEST(CropImage, CenterIsTheCentralSquare) {
  constexpr double kStep = 1.0;
  const Window wide = window_of(center_crop(ruler(200, 128, kStep), 64), kStep);
  EXPECT_NEAR(wide.left, 36, 1.1);
  EXPECT_NEAR(wide.right, 164, 1.1);
  EXPECT_NEAR(wide.top, 0, 1.1);
  EXPECT_NEAR(wide.bottom, 128, 1.1);
  EXPECT_FALSE(wide.is_mirrored);
}

TEST(CropImage, CenterOfASquareOfTheTargetSizeIsTheImageItself) {
  const RgbImage image = gradient_image(32, 32);
  EXPECT_EQ(center_crop(image, 32), image);
}

TEST(CropImage, AveragesAreas) {
  RgbImage stripes = gradient_image(64, 64);
  for (int64_t y = 0; y < 64; ++y)
    for (int64_t i = 0; i < 64 * 3; ++i)
      stripes.pixels[y * 64 * 3 + i] = (i / 3) % 2 == 0 ? 100 : 200;
  const RgbImage small = center_crop(stripes, 32);
  EXPECT_THAT(small.pixels, testing::Each(150));
}

TEST(CropImage, DvaeTakesAnySquareAnyScaleAndFlipsHalf) {
  // 240 x 160 at 64: the square is 160 wide, its side is scaled to 72..96, and 64 of it are kept.
  constexpr double kStep = 1.0;
  const RgbImage image = ruler(240, 160, kStep);
  int mirrored = 0;
  double smallest = 1e9, largest = 0, leftmost = 1e9, rightmost = 0;
  constexpr int kDraws = 2000;
  for (int seed = 0; seed < kDraws; ++seed) {
    SeedStream random(seed);
    const Window window = window_of(crop_image(image, 64, CropKind::kDvae, random), kStep);
    const double extent = window.right - window.left;
    mirrored += window.is_mirrored;
    smallest = std::min(smallest, extent);
    largest = std::max(largest, extent);
    leftmost = std::min(leftmost, window.left);
    rightmost = std::max(rightmost, window.right);
    EXPECT_GT(window.top, -1.5);
    EXPECT_LT(window.bottom, 161.5);
  }
  EXPECT_NEAR(smallest, 160.0 * 64 / 96, 2.5);
  EXPECT_NEAR(largest, 160.0 * 64 / 72, 2.5);
  EXPECT_NEAR(leftmost, 0, 3.5);
  EXPECT_NEAR(rightmost, 240, 3.5);
  EXPECT_NEAR(mirrored, kDraws / 2.0, 4 * std::sqrt(kDraws / 4.0));
}

TEST(CropImage, TransformerStaysNearTheCenterAndNeverFlips) {
  // 240 x 160 at 64: the square starts at 30..49 of 0..80, its side is scaled to 64..72.
  constexpr double kStep = 1.0;
  const RgbImage image = ruler(240, 160, kStep);
  double smallest = 1e9, largest = 0, leftmost = 1e9, rightmost = 0;
  for (int seed = 0; seed < 2000; ++seed) {
    SeedStream random(seed);
    const Window window = window_of(crop_image(image, 64, CropKind::kTransformer, random), kStep);
    const double extent = window.right - window.left;
    EXPECT_FALSE(window.is_mirrored);
    smallest = std::min(smallest, extent);
    largest = std::max(largest, extent);
    leftmost = std::min(leftmost, window.left);
    rightmost = std::max(rightmost, window.right);
  }
  EXPECT_NEAR(smallest, 160.0 * 64 / 72, 2.5);
  EXPECT_NEAR(largest, 160, 2.5);
  EXPECT_NEAR(leftmost, 30, 2);
  EXPECT_NEAR(rightmost, 49 + 160, 2);
}

TEST(CropImage, OffsetsReachBothEndsOfTheListingsRanges) {
  // The square has the target size, so nothing is scaled and the first pixel shows its offset.
  const auto offsets = [](CropKind kind, int64_t width) {
    const RgbImage image = ruler(width, 32, 1.0);
    std::set<int> found;
    for (int seed = 0; seed < 2000; ++seed) {
      SeedStream random(seed);
      const RgbImage crop = crop_image(image, 32, kind, random);
      found.insert(std::min(crop.pixels[0], crop.pixels[3 * 31]));
    }
    return found;
  };
  EXPECT_THAT(offsets(CropKind::kTransformer, 32), testing::ElementsAre(0));
  EXPECT_THAT(offsets(CropKind::kTransformer, 33), testing::ElementsAre(0));  // [0, max(1, 0))
  EXPECT_THAT(offsets(CropKind::kTransformer, 36), testing::ElementsAre(1));  // [1, max(2, 2))
  EXPECT_THAT(offsets(CropKind::kTransformer, 48),
              testing::ElementsAre(6, 7, 8, 9));  // [6, max(7, 10))
  EXPECT_THAT(offsets(CropKind::kDvae, 36), testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(CropImage, RejectsImagesSmallerThanTheTarget) {
  SeedStream random(1);
  for (const CropKind kind : kKinds)
    EXPECT_EQ(error_of([&] { crop_image(gradient_image(100, 31), 32, kind, random); }),
              "image too small: 100 x 31 pixels, expected a short side of at least 32");
}

}  // namespace
}  // namespace dalle
