#pragma once

#include "data/shapes/shapes_config.h"

namespace dalle {

/// Returns the signed distance of a point from the outline of a shape, negative inside. The shape
/// is centered at the origin and has the area of a circle of radius 1; y points down.
double shape_distance(ShapeKind shape, double x, double y);

/// Returns the largest distance of a point of the shape from its center, in radii of the circle
/// with the same area.
double shape_reach(ShapeKind shape);

}  // namespace dalle
