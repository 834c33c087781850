#include "eval/judged_images.h"

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

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
                                                       {"size", 0.0},
                                                       // 3 atoms five times, and 4 once.
                                                       {"atoms", (9 + 2 + 0 + 3) / 19.0}};
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

TEST(JudgedImagesTest, AreGroupedByTheAtomsOfTheirCaptions) {
  const auto groups = judged().by_atoms();
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups.at(3).images(), 5) << "count, shape and color";
  EXPECT_EQ(groups.at(4).images(), 1) << "and size";
  const auto proportions = groups.at(3).proportions();
  EXPECT_EQ(proportions.front().first, "exact");
  EXPECT_DOUBLE_EQ(proportions.front().second.value, 3 / 5.0);
  EXPECT_EQ(proportions.back().first, "atoms");
  EXPECT_DOUBLE_EQ(proportions.back().second.value, (9 + 2 + 0) / 15.0);
}

// Shapes and colors, each wrong in half of the images.
TEST(JudgedImagesTest, KindsThatAreWrongTogetherExceedTheProductAndOthersFallBelow) {
  const auto judged_as = [](const std::vector<std::pair<ShapeColor, ShapeKind>>& seen) {
    JudgedImages images;
    for (int i = 0; i < 25; ++i)
      for (const auto& [color, shape] : seen)
        add(images, kRed, one(color, shape, ShapeSize::kSmall));
    return images;
  };
  constexpr ShapeColor kR = ShapeColor::kRed, kG = ShapeColor::kGreen;
  constexpr ShapeKind kC = ShapeKind::kCircle, kS = ShapeKind::kSquare;
  const auto together = judged_as({{kR, kC}, {kR, kC}, {kG, kS}, {kG, kS}});
  EXPECT_DOUBLE_EQ(together.joint_over_product()->value, 0.5 / 0.25);
  const auto independent = judged_as({{kR, kC}, {kR, kS}, {kG, kC}, {kG, kS}});
  EXPECT_DOUBLE_EQ(independent.joint_over_product()->value, 1);
  EXPECT_EQ(judged_as({{kR, kS}, {kG, kC}}).joint_over_product(), std::nullopt);
}

TEST(JudgedImagesTest, TheIntervalOfTheProductIsThatOfItsLogarithm) {
  // One image for each of 100 captions, so that clusters are images.
  JudgedImages images;
  for (int i = 0; i < 100; ++i) {
    ShapesMatch match;
    match.exact = i < 40;
    match.count = true;
    match.shape = {.right = i < 60, .stated = 1};
    match.color = {.right = i < 40 || i >= 60, .stated = 1};
    images.add(std::to_string(i), match);
  }
  // log(joint / (shapes * colors)): its influences are 1/.4 - 1/.6 - 1/.8 + 1 for the first 40,
  // 1 - 1/.6 for the next 20 and 1 - 1/.8 for the last 40.
  const double first = 1 / .4 - 1 / .6 - 1 / .8 + 1, second = 1 - 1 / .6, third = 1 - 1 / .8;
  const double squares = 40 * first * first + 20 * second * second + 40 * third * third;
  const double error = std::sqrt(100.0 / 99 * squares) / 100;
  const Interval found = *images.joint_over_product();
  EXPECT_NEAR(found.value, .4 / (.6 * .8), 1e-12);
  EXPECT_NEAR(found.high, found.value * std::exp(1.959963984540054 * error), 1e-9);
  EXPECT_NEAR(found.low, found.value / std::exp(1.959963984540054 * error), 1e-9);
}

}  // namespace
}  // namespace dalle
