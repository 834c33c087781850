#include "data/shapes/shape_outline.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <vector>

#include "core/error.h"

namespace dalle {
namespace {

constexpr double kPi = std::numbers::pi;

struct Point {
  double x, y;
};

/// Signed distance from a simple polygon; negative inside (even-odd rule).
double polygon_distance(const std::vector<Point>& corners, Point p) {
  double squared = 1e300;
  bool inside = false;
  for (size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const Point a = corners[i], b = corners[j];
    const Point edge{b.x - a.x, b.y - a.y}, to{p.x - a.x, p.y - a.y};
    const double along =
        std::clamp((to.x * edge.x + to.y * edge.y) / (edge.x * edge.x + edge.y * edge.y), 0.0, 1.0);
    const double dx = to.x - along * edge.x, dy = to.y - along * edge.y;
    squared = std::min(squared, dx * dx + dy * dy);
    if ((a.y > p.y) != (b.y > p.y) && p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x)
      inside = !inside;
  }
  return inside ? -std::sqrt(squared) : std::sqrt(squared);
}

std::vector<Point> ring_of_points(int count, const std::vector<double>& radii) {
  std::vector<Point> points;  // the first one at the top
  for (int i = 0; i < count; ++i) {
    const double angle = 2 * kPi * i / count, radius = radii[static_cast<size_t>(i) % radii.size()];
    points.push_back({radius * std::sin(angle), -radius * std::cos(angle)});
  }
  return points;
}

/// The corners of a shape, scaled to the area of a circle of radius 1.
const std::vector<Point>& outline(ShapeKind shape) {
  static const double triangle = std::sqrt(4 * kPi / (3 * std::numbers::sqrt3));
  static const double half_square = std::sqrt(kPi) / 2;
  static const double star_inner = 0.45,
                      star = std::sqrt(kPi / (5 * star_inner * std::sin(kPi / 5)));
  static const double arm =
      std::sqrt(kPi / 20);  // half the side of each of the five squares of a cross
  static const std::vector<Point> outlines[] = {{{-half_square, -half_square},
                                                 {half_square, -half_square},
                                                 {half_square, half_square},
                                                 {-half_square, half_square}},
                                                ring_of_points(3, {triangle}),
                                                ring_of_points(4, {std::sqrt(kPi / 2)}),
                                                ring_of_points(10, {star, star * star_inner}),
                                                {{-arm, -3 * arm},
                                                 {arm, -3 * arm},
                                                 {arm, -arm},
                                                 {3 * arm, -arm},
                                                 {3 * arm, arm},
                                                 {arm, arm},
                                                 {arm, 3 * arm},
                                                 {-arm, 3 * arm},
                                                 {-arm, arm},
                                                 {-3 * arm, arm},
                                                 {-3 * arm, -arm},
                                                 {-arm, -arm}}};
  const size_t index = static_cast<size_t>(shape) - static_cast<size_t>(ShapeKind::kSquare);
  DALLE_CHECK(index < std::size(outlines));  // a polygon, in the order of the enum
  return outlines[index];
}

/// A disk minus a smaller disk that is offset to the right, shifted so that the centroid is at the
/// origin.
struct Crescent {
  double outer, inner, offset, shift;
};

const Crescent& unit_crescent() {
  static const Crescent crescent = [] {
    constexpr double kInner = 0.8, kOffset = 0.5;  // in outer radii
    // The intersection of disks of radii 1 and kInner whose centers are kOffset apart.
    const double a = std::acos((kOffset * kOffset + 1 - kInner * kInner) / (2 * kOffset));
    const double b = std::acos((kOffset * kOffset + kInner * kInner - 1) / (2 * kOffset * kInner));
    const double common = a - std::sin(2 * a) / 2 + kInner * kInner * (b - std::sin(2 * b) / 2);
    const double outer = std::sqrt(kPi / (kPi - common));
    // The first moment of the intersection along x, by numerical integration.
    double moment = 0;
    constexpr int kSlices = 10'000;
    for (int i = 0; i < kSlices; ++i) {
      const double x = kOffset - kInner + (1 - kOffset + kInner) * (i + 0.5) / kSlices;
      const double inner_height = kInner * kInner - (x - kOffset) * (x - kOffset);
      const double height = 2 * std::sqrt(std::max(0.0, std::min(1 - x * x, inner_height)));
      moment += x * height * (1 - kOffset + kInner) / kSlices;
    }
    const double centroid = -moment / (kPi - common) * outer;
    return Crescent{outer, kInner * outer, kOffset * outer, centroid};
  }();
  return crescent;
}

}  // namespace

double shape_distance(ShapeKind shape, double x, double y) {
  constexpr double kHole = 0.55;  // in outer radii
  static const double ring = 1 / std::sqrt(1 - kHole * kHole);
  const double radius = std::hypot(x, y);
  switch (shape) {
    case ShapeKind::kCircle:
      return radius - 1;
    case ShapeKind::kRing:
      return std::max(radius - ring, kHole * ring - radius);
    case ShapeKind::kCrescent: {
      const Crescent& crescent = unit_crescent();
      const double bite = std::hypot(x + crescent.shift - crescent.offset, y) - crescent.inner;
      return std::max(std::hypot(x + crescent.shift, y) - crescent.outer, -bite);
    }
    default:
      return polygon_distance(outline(shape), {x, y});
  }
}

double shape_reach(ShapeKind shape) {
  if (shape == ShapeKind::kCircle) return 1;
  if (shape == ShapeKind::kRing) return 1.2;
  if (shape == ShapeKind::kCrescent) return unit_crescent().outer + std::abs(unit_crescent().shift);
  double reach = 0;
  for (const Point& corner : outline(shape))
    reach = std::max(reach, std::hypot(corner.x, corner.y));
  return reach;
}

}  // namespace dalle
