#include "data/shapes/shapes_scene.h"

#include <cmath>
#include <map>
#include <set>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "data/shapes/shape_outline.h"

namespace dalle {
namespace {

constexpr int kScenes = 1000;

ShapesConfig full_config() {
  ShapesConfig config;
  config.max_objects = 3;
  return config;
}

template <class Use>
void for_each_scene(ShapesSplit split, const ShapesConfig& config, const Use& use) {
  for (int64_t i = 0; i < kScenes; ++i) use(sample_scene(config, 1, split, i));
}

bool any_held_out_pair(const ShapesScene& scene) {
  for (const auto& object : scene.objects)
    if (is_held_out_pair(object.shape, object.color, 1)) return true;
  return false;
}

TEST(ShapesScene, IsAFunctionOfSeedSplitAndIndex) {
  const ShapesConfig config = full_config();
  EXPECT_EQ(sample_scene(config, 1, ShapesSplit::kTrain, 5),
            sample_scene(config, 1, ShapesSplit::kTrain, 5));
  EXPECT_NE(sample_scene(config, 1, ShapesSplit::kTrain, 5),
            sample_scene(config, 1, ShapesSplit::kTrain, 6));
  EXPECT_NE(sample_scene(config, 1, ShapesSplit::kTrain, 5),
            sample_scene(config, 2, ShapesSplit::kTrain, 5));
  EXPECT_NE(sample_scene(config, 1, ShapesSplit::kTrain, 5),
            sample_scene(config, 1, ShapesSplit::kL1, 5));
}

TEST(ShapesScene, ObjectsAreInTheImageAndApart) {
  for_each_scene(ShapesSplit::kTrain, full_config(), [](const ShapesScene& scene) {
    for (size_t i = 0; i < scene.objects.size(); ++i) {
      const ShapesObject& a = scene.objects[i];
      const double reach = shape_reach(a.shape) * a.radius;
      for (const double center : {a.x, a.y}) {
        EXPECT_GE(center - reach, 0.0);
        EXPECT_LE(center + reach, 1.0);
      }
      EXPECT_GE(a.radius, a.size == ShapeSize::kSmall ? 0.115 : 0.18);
      EXPECT_LE(a.radius, a.size == ShapeSize::kSmall ? 0.125 : 0.20);
      for (size_t j = 0; j < i; ++j) {
        const ShapesObject& b = scene.objects[j];
        EXPECT_GT(std::hypot(a.x - b.x, a.y - b.y), 1.4 * (a.radius + b.radius) + 0.03);
        EXPECT_FALSE(a.shape == b.shape && a.color == b.color);
      }
    }
  });
}

TEST(ShapesScene, RelationsAreUnambiguous) {
  for_each_scene(ShapesSplit::kTrain, full_config(), [](const ShapesScene& scene) {
    ASSERT_EQ(scene.relations.size() + 1, scene.objects.size());
    for (size_t i = 0; i < scene.relations.size(); ++i) {
      const ShapesObject &a = scene.objects[i], &b = scene.objects[i + 1];
      const bool horizontal = scene.relations[i] == ShapesRelation::kLeft ||
                              scene.relations[i] == ShapesRelation::kRight;
      const bool reversed = scene.relations[i] == ShapesRelation::kRight ||
                            scene.relations[i] == ShapesRelation::kBelow;
      double main = horizontal ? b.x - a.x : b.y - a.y;
      const double other = horizontal ? b.y - a.y : b.x - a.x;
      if (reversed) main = -main;
      EXPECT_GE(main, 0.15);
      EXPECT_GE(main, 1.4 * std::abs(other));
    }
  });
}

TEST(ShapesScene, TrainingContainsNoHeldOutCombination) {
  for_each_scene(ShapesSplit::kTrain, full_config(), [](const ShapesScene& scene) {
    EXPECT_FALSE(any_held_out_pair(scene));
    EXPECT_LE(scene.objects.size(), 3u);  // L5 has four
    for (const auto& object : scene.objects)
      EXPECT_FALSE(is_held_out_texture(object.texture, object.color));
    for (size_t i = 0; i + 1 < scene.objects.size(); ++i) {
      EXPECT_FALSE(is_held_out_swap(scene.objects[i], scene.objects[i + 1], 1));
      EXPECT_FALSE(is_held_out_relation(scene.objects[i].shape, scene.relations[i],
                                        scene.objects[i + 1].shape));
    }
  });
}

TEST(ShapesScene, EachLevelTestsItsOwnRule) {
  const ShapesConfig config = full_config();
  for_each_scene(ShapesSplit::kL2, config, [](const ShapesScene& scene) {
    EXPECT_EQ(scene.objects.size(), 1u);
    EXPECT_TRUE(any_held_out_pair(scene));
  });
  for_each_scene(ShapesSplit::kL3, config, [](const ShapesScene& scene) {
    EXPECT_GE(scene.objects.size(), 2u);
    EXPECT_TRUE(any_held_out_pair(scene));
  });
  for_each_scene(ShapesSplit::kL4, config, [](const ShapesScene& scene) {
    ASSERT_EQ(scene.objects.size(), 2u);
    EXPECT_TRUE(is_held_out_swap(scene.objects[0], scene.objects[1], 1));
    EXPECT_FALSE(any_held_out_pair(scene));
  });
  for_each_scene(ShapesSplit::kL6, config, [](const ShapesScene& scene) {
    EXPECT_TRUE(
        is_held_out_relation(scene.objects[0].shape, scene.relations[0], scene.objects[1].shape));
  });
  for_each_scene(ShapesSplit::kL8, config, [](const ShapesScene& scene) {
    bool any = false;
    for (const auto& object : scene.objects)
      any |= is_held_out_texture(object.texture, object.color);
    EXPECT_TRUE(any);
  });
  EXPECT_EQ(sample_scene(config, 1, ShapesSplit::kL5, 0).objects.size(), 4u);
}

TEST(ShapesScene, APositionGridCentersObjectsInItsCellsAndFixesTheRadii) {
  for (const int64_t grid : {5, 6, 16}) {
    ShapesConfig config;
    config.position_grid = grid;
    const auto cells = static_cast<double>(grid);
    std::set<double> radii;
    std::set<std::pair<double, double>> positions;
    for_each_scene(ShapesSplit::kTrain, config, [&](const ShapesScene& scene) {
      for (const ShapesObject& object : scene.objects) {
        for (const double center : {object.x, object.y}) {
          const double reach = shape_reach(object.shape) * object.radius;
          EXPECT_GE(center - reach, 0);
          EXPECT_LE(center + reach, 1);
          EXPECT_NEAR(center * cells - std::floor(center * cells), 0.5, 1e-9);
        }
        radii.insert(object.radius);
        positions.emplace(object.x, object.y);
      }
    });
    EXPECT_THAT(radii, testing::ElementsAre(testing::DoubleNear(0.12, 1e-9),
                                            testing::DoubleNear(0.19, 1e-9)));
    EXPECT_GT(positions.size(), static_cast<size_t>((grid - 2) * (grid - 2) / 2));
  }
}

TEST(ShapesScene, RulesHoldOutEveryValueEquallyOften) {
  for (const auto& [shape, shape_name] : enum_names(ShapeKind{})) {
    for (const auto relation : {ShapesRelation::kLeft, ShapesRelation::kAbove}) {
      int seconds = 0;
      for (const auto& [second, second_name] : enum_names(ShapeKind{}))
        seconds += is_held_out_relation(shape, relation, second);
      EXPECT_EQ(seconds, 1) << shape_name;
    }
  }
  for (const auto& [color, name] : enum_names(ShapeColor{})) {
    int textures = 0;
    for (const auto& [texture, texture_name] : enum_names(ShapeTexture{}))
      textures += is_held_out_texture(texture, color);
    EXPECT_EQ(textures, 1) << name;
  }
}

TEST(ShapesScene, HeldOutPairsAreNestedLatinSquares) {
  for (int64_t eighths = 1; eighths <= 6; ++eighths) {
    std::map<ShapeKind, int64_t> of_shape;
    std::map<ShapeColor, int64_t> of_color;
    for (const auto& [shape, shape_name] : enum_names(ShapeKind{}))
      for (const auto& [color, color_name] : enum_names(ShapeColor{})) {
        const bool is_held_out = is_held_out_pair(shape, color, eighths);
        of_shape[shape] += is_held_out, of_color[color] += is_held_out;
        EXPECT_TRUE(!is_held_out || is_held_out_pair(shape, color, eighths + 1));
      }
    for (const auto& [shape, pairs] : of_shape) EXPECT_EQ(pairs, eighths);
    for (const auto& [color, pairs] : of_color) EXPECT_EQ(pairs, eighths);
  }
}

TEST(ShapesScene, SplitsFollowTheNumberOfHeldOutPairs) {
  ShapesConfig config = full_config();
  config.held_out_pairs = 4;
  const auto held_out = [](const ShapesObject& object) {
    return is_held_out_pair(object.shape, object.color, 4);
  };
  int64_t only_now = 0;  // held out because 4 eighths are, and not 1
  for (const auto split : {ShapesSplit::kTrain, ShapesSplit::kL4, ShapesSplit::kL6})
    for_each_scene(split, config, [&](const ShapesScene& scene) {
      EXPECT_TRUE(std::ranges::none_of(scene.objects, held_out));
    });
  for (const auto split : {ShapesSplit::kL2, ShapesSplit::kL3})
    for_each_scene(split, config, [&](const ShapesScene& scene) {
      EXPECT_TRUE(std::ranges::any_of(scene.objects, held_out));
      only_now += !any_held_out_pair(scene);
    });
  EXPECT_GT(only_now, 0);
}

TEST(ShapesScene, ARelationAndItsInverseAreHeldOutTogether) {
  for (const auto& [a, a_name] : enum_names(ShapeKind{}))
    for (const auto& [b, b_name] : enum_names(ShapeKind{})) {
      EXPECT_EQ(is_held_out_relation(a, ShapesRelation::kRight, b),
                is_held_out_relation(b, ShapesRelation::kLeft, a));
      EXPECT_EQ(is_held_out_relation(a, ShapesRelation::kBelow, b),
                is_held_out_relation(b, ShapesRelation::kAbove, a));
    }
}

TEST(ShapesScene, ASwapDoesNotDependOnTheOrderOfItsObjects) {
  ShapesObject a{.shape = ShapeKind::kStar, .color = ShapeColor::kRed},
      b{.shape = ShapeKind::kRing, .color = ShapeColor::kBlue};
  for (const auto& [color, name] : enum_names(ShapeColor{})) {
    a.color = color;
    EXPECT_EQ(is_held_out_swap(a, b, 1), is_held_out_swap(b, a, 1));
  }
}

TEST(ShapesScene, TrainsOnEveryPairWithoutHoldOut) {
  ShapesConfig config = full_config();
  config.hold_out = false;
  config.max_objects = 1;
  std::map<std::pair<ShapeKind, ShapeColor>, int> counts;
  for (int64_t i = 0; i < 6400; ++i) {
    const ShapesScene scene = sample_scene(config, 1, ShapesSplit::kTrain, i);
    ++counts[{scene.objects[0].shape, scene.objects[0].color}];
  }
  ASSERT_EQ(counts.size(), 64u);
  double chi_square = 0;
  for (const auto& [pair, count] : counts) chi_square += (count - 100.0) * (count - 100.0) / 100.0;
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
}

TEST(ShapesScene, UsesOnlyTheAttributesOfItsConfig) {
  ShapesConfig config = full_config();
  config.shapes = {ShapeKind::kStar, ShapeKind::kCross};
  config.textures = {ShapeTexture::kDotted};
  for_each_scene(ShapesSplit::kTrain, config, [](const ShapesScene& scene) {
    for (const auto& object : scene.objects) {
      EXPECT_TRUE(object.shape == ShapeKind::kStar || object.shape == ShapeKind::kCross);
      EXPECT_EQ(object.texture, ShapeTexture::kDotted);
    }
  });
}

TEST(ShapesScene, ARecoloredCopyIsBelowTheOriginalAndDiffersInItsColorAlone) {
  for (const int64_t grid : {0, 16}) {
    ShapesConfig config;
    config.max_objects = 1;
    config.sizes = {ShapeSize::kSmall};
    config.position_grid = grid;
    config.hold_out = false;
    config.recolored_copies = true;
    for_each_scene(ShapesSplit::kTrain, config, [](const ShapesScene& scene) {
      ASSERT_EQ(scene.objects.size(), 2u);
      const ShapesObject original = scene.objects[0], copy = scene.objects[1];
      EXPECT_NE(copy.color, original.color);
      ShapesObject expected = original;
      expected.color = copy.color;
      expected.y += 0.5;
      EXPECT_EQ(copy, expected);
      EXPECT_GE(original.y - shape_reach(original.shape) * original.radius, 0);
      EXPECT_LE(original.y + shape_reach(original.shape) * original.radius, 0.5);
      EXPECT_LE(copy.y + shape_reach(copy.shape) * copy.radius, 1.0);
      EXPECT_EQ(scene.relations, std::vector{ShapesRelation::kAbove});
    });
  }
}

TEST(ShapesScene, RejectsAttributesThatAllowNoScene) {
  ShapesConfig config = full_config();
  config.shapes = {ShapeKind::kCircle};
  config.colors = {ShapeColor::kRed};  // allows only a held-out pair
  EXPECT_THROW(sample_scene(config, 1, ShapesSplit::kTrain, 0), Error);
}

}  // namespace
}  // namespace dalle
