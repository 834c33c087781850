#include "eval/shapes_match.h"

#include <gtest/gtest.h>

#include "data/shapes/shapes_renderer.h"

namespace dalle {
namespace {

DetectedObject object(ShapeColor color, ShapeKind shape, double x, double y = 0.5) {
  return {.shape = shape, .color = color, .x = x, .y = y};
}

DetectedScene seen(std::vector<DetectedObject> objects) {
  return {.objects = std::move(objects), .background = ShapeBackground::kWhite};
}

const DetectedObject kRedCircle = object(ShapeColor::kRed, ShapeKind::kCircle, 0.2);
const DetectedObject kBlueSquare = object(ShapeColor::kBlue, ShapeKind::kSquare, 0.7);
const ShapesDescription kTwo = parse_shapes_caption("a red circle left of a blue square");

void expect_errors(const ShapesMatch& match, const ShapesErrors& expected) {
  EXPECT_FALSE(match.exact);
  EXPECT_EQ(match.errors.missing_objects, expected.missing_objects);
  EXPECT_EQ(match.errors.extra_objects, expected.extra_objects);
  EXPECT_EQ(match.errors.wrong_values, expected.wrong_values);
  EXPECT_EQ(match.errors.binding, expected.binding);
}

TEST(ShapesMatchTest, ObjectsMatchInAnyOrder) {
  for (const auto& objects : {std::vector{kRedCircle, kBlueSquare}, {kBlueSquare, kRedCircle}}) {
    const ShapesMatch match = match_shapes(kTwo, seen(objects));
    EXPECT_TRUE(match.exact);
    EXPECT_TRUE(match.count);
    EXPECT_EQ(match.shape, (StatedValues{2, 2}));
    EXPECT_EQ(match.color, (StatedValues{2, 2}));
    EXPECT_EQ(match.relation, (StatedValues{1, 1}));
    EXPECT_EQ(match.size, (StatedValues{0, 0})) << "not stated";
    EXPECT_EQ(match.atoms(), (StatedValues{6, 6})) << "with the count";
  }
}

TEST(ShapesMatchTest, UnstatedAttributesMayHaveAnyValue) {
  DetectedObject circle = kRedCircle;
  circle.texture = ShapeTexture::kDotted;
  circle.size = ShapeSize::kSmall;
  EXPECT_TRUE(match_shapes(parse_shapes_caption("a red circle"), seen({circle})).exact);
  EXPECT_FALSE(match_shapes(parse_shapes_caption("a large red circle"), seen({circle})).exact);
}

TEST(ShapesMatchTest, SwappedColorsAreBindingErrors) {
  const auto match = match_shapes(kTwo, seen({object(ShapeColor::kBlue, ShapeKind::kCircle, 0.2),
                                              object(ShapeColor::kRed, ShapeKind::kSquare, 0.7)}));
  expect_errors(match, {.binding = 2});
  EXPECT_EQ(match.shape, (StatedValues{2, 2}));
  EXPECT_EQ(match.color, (StatedValues{0, 2}));
  EXPECT_EQ(match.relation, (StatedValues{1, 1}));
}

TEST(ShapesMatchTest, AValueThatNoObjectWronglyHasIsAWrongValue) {
  const auto green = object(ShapeColor::kGreen, ShapeKind::kCircle, 0.2);
  expect_errors(match_shapes(kTwo, seen({green, kBlueSquare})), {.wrong_values = 1});
  // Both are described as red; that the square is so is right.
  expect_errors(match_shapes(parse_shapes_caption("a red circle left of a red square"),
                             seen({green, object(ShapeColor::kRed, ShapeKind::kSquare, 0.7)})),
                {.wrong_values = 1});
}

TEST(ShapesMatchTest, AValueOnAnExtraObjectIsABindingError) {
  const auto match = match_shapes(parse_shapes_caption("a red circle"),
                                  seen({object(ShapeColor::kBlue, ShapeKind::kCircle, 0.2),
                                        object(ShapeColor::kRed, ShapeKind::kStar, 0.8)}));
  expect_errors(match, {.extra_objects = 1, .binding = 1});
}

TEST(ShapesMatchTest, ObjectsBeyondTheLargestOnesAreExtra) {
  std::vector<DetectedObject> objects(200, object(ShapeColor::kGreen, ShapeKind::kStar, 0.5));
  objects[0] = kRedCircle;
  const auto match = match_shapes(kTwo, seen(objects));
  EXPECT_EQ(match.color, (StatedValues{1, 2}));
  EXPECT_EQ(match.errors.extra_objects, 198);
}

TEST(ShapesMatchTest, MissingObjectsLackAllTheirAttributes) {
  const auto match = match_shapes(kTwo, seen({kBlueSquare}));
  expect_errors(match, {.missing_objects = 1});
  EXPECT_FALSE(match.count);
  EXPECT_EQ(match.shape, (StatedValues{1, 2}));
  EXPECT_EQ(match.color, (StatedValues{1, 2}));
  EXPECT_EQ(match.relation, (StatedValues{0, 1}));
  expect_errors(match_shapes(kTwo, seen({})), {.missing_objects = 2});
}

TEST(ShapesMatchTest, ExtraObjectsAreNotExact) {
  const auto match = match_shapes(
      kTwo, seen({kRedCircle, kBlueSquare, object(ShapeColor::kPink, ShapeKind::kStar, 0.5, 0.9)}));
  expect_errors(match, {.extra_objects = 1});
  EXPECT_FALSE(match.count);
  EXPECT_EQ(match.atoms(), (StatedValues{5, 6}));
}

TEST(ShapesMatchTest, RelationsCountBetweenTheAssignedObjects) {
  const ShapesMatch match = match_shapes(
      parse_shapes_caption("a red circle right of a blue square"), seen({kRedCircle, kBlueSquare}));
  expect_errors(match, {});
  EXPECT_EQ(match.relation, (StatedValues{0, 1}));
  const auto small = [](double x) {
    DetectedObject circle = object(ShapeColor::kRed, ShapeKind::kCircle, x);
    circle.size = ShapeSize::kSmall;
    return circle;
  };
  // Two equal objects: the assignment with the right relation counts.
  EXPECT_TRUE(match_shapes(parse_shapes_caption("a small red circle right of a red circle"),
                           seen({small(0.2), small(0.8)}))
                  .exact);
}

TEST(ShapesMatchTest, ACopyHasTheAttributesOfTheUppermostObject) {
  const ShapesDescription copied = parse_shapes_caption("the same object in blue below");
  const auto exact = [&](const std::vector<DetectedObject>& objects) {
    return match_shapes(copied, seen(objects)).exact;
  };
  const DetectedObject original = object(ShapeColor::kRed, ShapeKind::kCircle, 0.3, 0.2);
  const DetectedObject copy = object(ShapeColor::kBlue, ShapeKind::kCircle, 0.3, 0.7);
  EXPECT_TRUE(exact({original, copy}));
  EXPECT_TRUE(exact({copy, original}));
  EXPECT_FALSE(exact({original})) << "no copy";
  EXPECT_FALSE(exact({}));
  EXPECT_FALSE(exact({original, original})) << "not blue, and not below";
  DetectedObject other = copy;
  other.shape = ShapeKind::kSquare;
  EXPECT_FALSE(exact({original, other}));
  other = copy;
  other.texture = ShapeTexture::kDotted;
  EXPECT_FALSE(exact({original, other}));
  other = copy;
  other.x = 0.9;
  EXPECT_FALSE(exact({original, other})) << "right of it rather than below";
  DetectedObject unknown = original, copy_of_unknown = copy;
  unknown.shape = copy_of_unknown.shape = std::nullopt;
  EXPECT_FALSE(exact({unknown, copy_of_unknown}));
}

TEST(ShapesMatchTest, TheBackgroundCountsIfStated) {
  const auto black = parse_shapes_caption("a red circle on a black background");
  EXPECT_EQ(match_shapes(black, seen({kRedCircle})).background, (StatedValues{0, 1}));
  EXPECT_FALSE(match_shapes(black, seen({kRedCircle})).exact);
  EXPECT_TRUE(
      match_shapes(black, {.objects = {kRedCircle}, .background = ShapeBackground::kBlack}).exact);
  EXPECT_FALSE(match_shapes(black, {.objects = {kRedCircle}, .background = std::nullopt}).exact);
}

TEST(SameObjectsAboveTest, ComparesOnlyWhatLiesWhollyAboveTheEdge) {
  const DetectedObject upper = object(ShapeColor::kRed, ShapeKind::kCircle, 0.3, 0.25);
  const DetectedObject lower = object(ShapeColor::kBlue, ShapeKind::kSquare, 0.7, 0.8);
  const DetectedObject other = object(ShapeColor::kPink, ShapeKind::kStar, 0.2, 0.75);
  const DetectedScene scene = seen({upper, lower});
  EXPECT_TRUE(has_same_objects_above(0.5, scene, scene));
  EXPECT_TRUE(has_same_objects_above(0.5, scene, seen({other, upper}))) << "below may differ";
  EXPECT_FALSE(has_same_objects_above(0.5, scene, seen({lower}))) << "is gone";
  EXPECT_FALSE(has_same_objects_above(0.5, seen({lower}), scene)) << "is new";
  DetectedObject changed = upper;
  changed.color = ShapeColor::kOrange;
  EXPECT_FALSE(has_same_objects_above(0.5, scene, seen({changed, lower})));
  changed = upper;
  changed.x += 0.01;
  EXPECT_TRUE(has_same_objects_above(0.5, scene, seen({changed, lower}))) << "by half a pixel";
  changed.x += 0.2;
  EXPECT_FALSE(has_same_objects_above(0.5, scene, seen({changed, lower})));
}

// A circle across the edge of which only the upper part is shown.
TEST(SameObjectsAboveTest, WhatIsGivenOfAnObjectAcrossTheEdgeIsNotNew) {
  DetectedObject across = object(ShapeColor::kRed, ShapeKind::kCircle, 0.3, 0.45);
  DetectedObject cut = object(ShapeColor::kRed, ShapeKind::kCrescent, 0.3, 0.4);
  cut.radius = 0.05;
  EXPECT_TRUE(has_same_objects_above(0.5, seen({across}), seen({cut})));
  EXPECT_TRUE(has_same_objects_above(0.5, seen({across}), seen({}))) << "does not lie above";
}

// Rendered scenes whose lower halves are exchanged.
TEST(SameObjectsAboveTest, HoldsForImagesWithTheSameUpperHalf) {
  const auto scene_with = [](ShapeColor upper, ShapeColor lower) {
    ShapesScene scene;
    scene.objects = {{.shape = ShapeKind::kStar, .color = upper, .x = 0.3, .y = 0.25},
                     {.shape = ShapeKind::kCross, .color = lower, .x = 0.7, .y = 0.75}};
    return detect_shapes(render_scene(scene, 64));
  };
  const DetectedScene scene = scene_with(ShapeColor::kRed, ShapeColor::kBlue);
  EXPECT_TRUE(has_same_objects_above(0.5, scene, scene_with(ShapeColor::kRed, ShapeColor::kGreen)));
  EXPECT_FALSE(
      has_same_objects_above(0.5, scene, scene_with(ShapeColor::kGreen, ShapeColor::kBlue)));
}

}  // namespace
}  // namespace dalle
