#include "data/shapes/shape_outline.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace dalle {
namespace {

TEST(ShapeOutlineTest, ShapesStayWithinTheirReach) {
  for (const auto& [shape, name] : enum_names(ShapeKind{})) {
    const double radius = shape_reach(shape) + 1e-9;
    for (int i = 0; i < 3600; ++i) {
      const double angle = i * std::numbers::pi / 1800;
      EXPECT_GE(shape_distance(shape, radius * std::cos(angle), radius * std::sin(angle)), 0)
          << name;
    }
  }
}

TEST(ShapeOutlineTest, ACrescentOpensToTheRight) {
  EXPECT_LT(shape_distance(ShapeKind::kCrescent, -0.8, 0), 0);
  EXPECT_GT(shape_distance(ShapeKind::kCrescent, 0.6, 0), 0);
}

}  // namespace
}  // namespace dalle
