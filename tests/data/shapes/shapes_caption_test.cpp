#include "data/shapes/shapes_caption.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/ascii.h"
#include "data/shapes/shapes_description.h"

namespace dalle {
namespace {

TEST(SwapShapesAttributesTest, ExchangesColorsOrElseShapes) {
  EXPECT_EQ(swap_shapes_attributes("a small red circle left of a large blue square"),
            "a small blue circle left of a large red square");
  EXPECT_EQ(swap_shapes_attributes("a red circle over an orange ring on a white background"),
            "an orange circle over a red ring on a white background");
  EXPECT_EQ(swap_shapes_attributes("a red circle above a red ring"),
            "a red ring above a red circle");
}

TEST(SwapShapesAttributesTest, NeedsTwoObjects) {
  EXPECT_EQ(swap_shapes_attributes("a red circle on a black background"), std::nullopt);
}

// A model that reads a caption as a bag of words cannot tell it from the original.
TEST(SwapShapesAttributesTest, KeepsTheWordsAndChangesTheMeaning) {
  const auto bag = [](const std::string& caption) {
    std::vector<std::string> words = split_words(caption);
    std::erase(words, "an");  // an article follows its noun
    std::erase(words, "a");
    std::ranges::sort(words);
    return words;
  };
  ShapesConfig config;
  config.min_objects = 2;
  config.max_objects = 4;
  config.hold_out = false;
  for (const auto phrasing : {ShapesPhrasing::kTraining, ShapesPhrasing::kHeldOut})
    for (int64_t i = 0; i < 300; ++i) {
      const ShapesScene scene = sample_scene(config, 3, ShapesSplit::kTrain, i);
      SeedStream random(static_cast<uint64_t>(i));
      const std::string caption = shapes_caption(scene, config, phrasing, random);
      const auto swapped = swap_shapes_attributes(caption);
      ASSERT_TRUE(swapped) << caption;
      EXPECT_EQ(bag(*swapped), bag(caption));
      EXPECT_NE(parse_shapes_caption(*swapped), parse_shapes_caption(caption)) << *swapped;
    }
}

}  // namespace
}  // namespace dalle
