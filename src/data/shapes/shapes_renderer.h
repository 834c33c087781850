#pragma once

#include <cstdint>

#include "data/image/rgb_image.h"
#include "data/shapes/shapes_scene.h"

namespace dalle {

/// Renders a scene at any size: solid or textured objects on a plain background, anti-aliased by
/// the signed distance of each pixel's center from the object's outline.
RgbImage render_scene(const ShapesScene& scene, int64_t image_size);

/// Returns the signed distance of a point from the outline of a shape, negative inside. The shape
/// is centered at the origin and has the area of a circle of radius 1; y points down.
double shape_distance(ShapeKind shape, double x, double y);

/// Returns the largest distance of a point of the shape from its center, in radii of the circle
/// with the same area.
double shape_reach(ShapeKind shape);

}  // namespace dalle
