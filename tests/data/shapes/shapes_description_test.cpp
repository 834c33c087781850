#include "data/shapes/shapes_description.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/seeds.h"
#include "data/shapes/describe_scene.h"
#include "data/shapes/shapes_caption.h"
#include "error_of.h"

namespace dalle {
namespace {

using testing::HasSubstr;

TEST(ShapesDescriptionTest, CaptionsOfScenesAreReadBack) {
  ShapesConfig config;
  config.max_objects = 3;
  config.unstated_attributes = 0;
  for (const auto phrasing : {ShapesPhrasing::kTraining, ShapesPhrasing::kHeldOut})
    for (int64_t i = 0; i < 300; ++i) {
      const ShapesScene scene = sample_scene(config, 3, ShapesSplit::kTrain, i);
      SeedStream random(static_cast<uint64_t>(i));
      const std::string caption = shapes_caption(scene, config, phrasing, random);
      EXPECT_EQ(parse_shapes_caption(caption), describe_scene(scene)) << caption;
    }
}

TEST(ShapesDescriptionTest, UnstatedAttributesAreFree) {
  const DescribedObject circle{
      .shape = ShapeKind::kCircle, .color = ShapeColor::kRed, .size = {}, .texture = {}};
  EXPECT_EQ(parse_shapes_caption("a red circle"),
            (ShapesDescription{.objects = {circle}, .relations = {}, .background = {}}));
  EXPECT_EQ(parse_shapes_caption("there is a red circle"), parse_shapes_caption("a red circle"));

  const ShapesDescription some = parse_shapes_caption("a dotted ring on a black background");
  EXPECT_EQ(some.objects.front().texture, ShapeTexture::kDotted);
  EXPECT_EQ(some.objects.front().color, std::nullopt);
  EXPECT_EQ(some.background, ShapeBackground::kBlack);
}

TEST(ShapesDescriptionTest, ACaptionOfACopySaysItsColor) {
  ShapesConfig config;
  config.recolored_copies = true;
  const ShapesScene scene{.objects = {{.color = ShapeColor::kRed}, {.color = ShapeColor::kBlue}},
                          .relations = {ShapesRelation::kAbove}};
  SeedStream random(1);
  const std::string caption = shapes_caption(scene, config, ShapesPhrasing::kTraining, random);
  const ShapesDescription copied = parse_shapes_caption(caption);
  EXPECT_TRUE(copied.is_copy);
  DescribedObject blue;
  blue.color = ShapeColor::kBlue;
  EXPECT_EQ(copied.objects, (std::vector<DescribedObject>{{}, blue}));
  EXPECT_EQ(copied.relations, scene.relations);
}

TEST(ShapesDescriptionTest, IgnoresCasePunctuationAndTheOrderOfAdjectives) {
  EXPECT_EQ(parse_shapes_caption("A Small Red, Striped  Circle."),
            parse_shapes_caption("a small striped red circle"));
  EXPECT_EQ(parse_shapes_caption("a red circle on a gray background"),
            parse_shapes_caption("one red circle on a grey background"));
}

TEST(ShapesDescriptionTest, SaysWhichWordIsUnexpected) {
  const auto error = [](std::string_view caption) {
    return error_of([&] { parse_shapes_caption(caption); });
  };
  EXPECT_THAT(error("a red teapot"), HasSubstr("found \"teapot\" as word 3, expected a size, "
                                               "texture, color or shape"));
  EXPECT_THAT(error("the same object in blue under"), HasSubstr("expected below"));
  EXPECT_THAT(error("a red"), HasSubstr("found the end, expected a size"));
  EXPECT_THAT(error(""), HasSubstr("found the end, expected a, an, one or the"));
  EXPECT_THAT(error("a red circle near a blue ring"),
              HasSubstr("found \"near\" as word 4, expected a relation"));
  EXPECT_THAT(error("a red circle above a blue ring, and the red circle above a green star"),
              HasSubstr("expected the color and shape of the previous object"));
  EXPECT_THAT(error("a red circle on a pink background"), HasSubstr("found \"pink\" as word 6"));
}

}  // namespace
}  // namespace dalle
