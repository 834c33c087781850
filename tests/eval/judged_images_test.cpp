#include "eval/judged_images.h"

#include <map>

#include <gtest/gtest.h>

namespace dalle {
namespace {

constexpr const char* kRed = "a red circle";
constexpr const char* kBlue = "a small blue square";

DetectedScene one(ShapeColor color, ShapeKind shape, ShapeSize size) {
  return {.objects = {{.shape = shape, .color = color, .size = size}},
          .background = ShapeBackground::kWhite};
}

void add(JudgedImages& images, const char* caption, const DetectedScene& scene) {
  images.add(caption, match_shapes(parse_shapes_caption(caption), scene));
}

/// A red circle three times, once green and once missing; a blue square that is large.
JudgedImages judged() {
  JudgedImages images;
  for (int i = 0; i < 3; ++i)
    add(images, kRed, one(ShapeColor::kRed, ShapeKind::kCircle, ShapeSize::kSmall));
  add(images, kRed, one(ShapeColor::kGreen, ShapeKind::kCircle, ShapeSize::kSmall));
  add(images, kRed, {.objects = {}, .background = ShapeBackground::kWhite});
  add(images, kBlue, one(ShapeColor::kBlue, ShapeKind::kSquare, ShapeSize::kLarge));
  return images;
}

TEST(JudgedImagesTest, CountsEachAttributeWhereItIsStated) {
  const JudgedImages images = judged();
  EXPECT_EQ(images.images(), 6);
  std::map<std::string_view, double> values;
  for (const auto& [name, proportion] : images.proportions()) values[name] = proportion.value;
  const std::map<std::string_view, double> expected = {{"exact", 3 / 6.0},
                                                       {"count", 5 / 6.0},
                                                       {"shape", 5 / 6.0},
                                                       {"color", 4 / 6.0},
                                                       {"size", 0.0}};
  EXPECT_EQ(values, expected);
  const ShapesErrors errors = images.errors();
  EXPECT_EQ(errors.missing_objects, 1);
  EXPECT_EQ(errors.extra_objects, 0);
  EXPECT_EQ(errors.wrong_values, 2);
  EXPECT_EQ(errors.binding, 0);
}

TEST(JudgedImagesTest, ImagesOfOneCaptionAreOneCluster) {
  const Interval exact = judged().proportions().front().second;
  const Interval expected =
      clustered_proportion(std::vector<double>{3, 0}, std::vector<double>{5, 1});
  EXPECT_DOUBLE_EQ(exact.low, expected.low);
  EXPECT_DOUBLE_EQ(exact.high, expected.high);
}

TEST(JudgedImagesTest, TheCeilingIsComparedCaptionByCaption) {
  JudgedImages found, ceiling, none;
  const DetectedScene red = one(ShapeColor::kRed, ShapeKind::kCircle, ShapeSize::kSmall);
  const DetectedScene blue = one(ShapeColor::kBlue, ShapeKind::kSquare, ShapeSize::kSmall);
  for (const char* caption : {kRed, kBlue, kRed, kBlue}) {
    add(found, caption, red);
    add(ceiling, caption, caption == kRed ? red : blue);
    add(none, caption, {.objects = {}, .background = ShapeBackground::kWhite});
  }
  EXPECT_DOUBLE_EQ(found.exact_over(ceiling)->value, 0.5);
  const Interval same = *ceiling.exact_over(ceiling);
  EXPECT_DOUBLE_EQ(same.low, 1);
  EXPECT_DOUBLE_EQ(same.high, 1);
  EXPECT_EQ(found.exact_over(none), std::nullopt);
}

}  // namespace
}  // namespace dalle
