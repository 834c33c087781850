#include "data/shapes/shapes_renderer.h"

#include <array>
#include <cmath>
#include <numbers>
#include <set>

#include <gtest/gtest.h>

#include "enum_values.h"

namespace dalle {
namespace {

ShapesScene one_object(ShapeKind shape, ShapeTexture texture = ShapeTexture::kSolid) {
  return {.objects = {{.shape = shape,
                       .color = ShapeColor::kGreen,
                       .texture = texture,
                       .x = 0.5,
                       .y = 0.5,
                       .radius = 0.19}},
          .relations = {},
          .background = ShapeBackground::kBlack};
}

std::array<int, 3> pixel(const RgbImage& image, double x, double y) {
  const auto column = static_cast<int64_t>(x * static_cast<double>(image.width)),
             row = static_cast<int64_t>(y * static_cast<double>(image.height));
  const auto at = static_cast<size_t>((row * image.width + column) * 3);
  return {image.pixels[at], image.pixels[at + 1], image.pixels[at + 2]};
}

class ShapesRendererTest : public testing::TestWithParam<ShapeKind> {};

TEST_P(ShapesRendererTest, ShapesCoverEqualAreas) {
  const RgbImage image = render_scene(one_object(GetParam()), 256);
  double covered = 0;
  for (size_t i = 1; i < image.pixels.size(); i += 3)
    covered += image.pixels[i] / 170.0;  // the green level of green
  const double expected = std::numbers::pi * std::pow(0.19 * 256, 2);
  EXPECT_NEAR(covered / expected, 1.0, 0.03);
}

TEST_P(ShapesRendererTest, ShapesAreAntiAliased) {
  const RgbImage image = render_scene(one_object(GetParam()), 64);
  std::set<uint8_t> levels;
  for (size_t i = 1; i < image.pixels.size(); i += 3) levels.insert(image.pixels[i]);
  // Edges along the pixel grid or its diagonals have few distinct levels of coverage.
  const bool few = GetParam() == ShapeKind::kSquare || GetParam() == ShapeKind::kCross ||
                   GetParam() == ShapeKind::kDiamond;
  EXPECT_GT(levels.size(), few ? 2u : 8u);
}

TEST_P(ShapesRendererTest, ShapesScaleWithTheImage) {
  const RgbImage large = render_scene(one_object(GetParam()), 256),
                 small = render_scene(one_object(GetParam()), 64);
  double difference = 0;  // between 4 x 4 means of the large image and the small image
  for (int64_t row = 0; row < 64; ++row)
    for (int64_t column = 0; column < 64; ++column) {
      double sum = 0;
      for (int64_t y = 0; y < 4; ++y)
        for (int64_t x = 0; x < 4; ++x)
          sum += large.pixels[static_cast<size_t>(((4 * row + y) * 256 + 4 * column + x) * 3 + 1)];
      difference +=
          std::abs(sum / 16 - small.pixels[static_cast<size_t>((row * 64 + column) * 3 + 1)]);
    }
  EXPECT_LT(difference / (64 * 64), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ShapesRendererTest, testing::ValuesIn(enum_values<ShapeKind>()),
                         kEnumName);

TEST(ShapesRenderer, PaintsTheColorInsideAndTheBackgroundOutside) {
  ShapesScene scene = one_object(ShapeKind::kCircle);
  for (const auto& [background, gray] :
       {std::pair{ShapeBackground::kWhite, 255}, std::pair{ShapeBackground::kGrey, 128},
        std::pair{ShapeBackground::kBlack, 0}}) {
    scene.background = background;
    const RgbImage image = render_scene(scene, 64);
    EXPECT_EQ(pixel(image, 0.5, 0.5), (std::array<int, 3>{0, 170, 40}));
    EXPECT_EQ(pixel(image, 0.1, 0.1), (std::array<int, 3>{gray, gray, gray}));
  }
}

TEST(ShapesRenderer, ColorsAreFarApart) {
  std::vector<std::array<int, 3>> colors;
  for (const auto& [color, name] : enum_names(ShapeColor{})) {
    ShapesScene scene = one_object(ShapeKind::kCircle);
    scene.objects[0].color = color;
    colors.push_back(pixel(render_scene(scene, 64), 0.5, 0.5));
  }
  for (size_t i = 0; i < colors.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const double distance = std::hypot(colors[i][0] - colors[j][0], colors[i][1] - colors[j][1],
                                         colors[i][2] - colors[j][2]);
      EXPECT_GT(distance, 80) << i << " " << j;
    }
}

TEST(ShapesRenderer, TexturesHaveASecondDarkerTone) {
  for (const auto texture :
       {ShapeTexture::kStriped, ShapeTexture::kDotted, ShapeTexture::kCheckered}) {
    const RgbImage image = render_scene(one_object(ShapeKind::kSquare, texture), 256);
    int light = 0, dark = 0;
    for (size_t i = 1; i < image.pixels.size(); i += 3) {
      light += image.pixels[i] == 170;
      dark += image.pixels[i] == 68;
    }
    EXPECT_GT(light, 1000) << to_string(texture);
    EXPECT_GT(dark, 1000) << to_string(texture);
  }
}

}  // namespace
}  // namespace dalle
