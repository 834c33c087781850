#pragma once

#include <cstdint>

#include "dalle/data/picture.h"
#include "dalle/data/shapes_scene.h"

namespace dalle {

/// Draws a scene at any side: flat or textured objects on a plain background, anti-aliased by the
/// signed distance of each pixel's centre from the object's outline.
Picture render_scene(const ShapesScene& scene, int64_t image_size);

/// Signed distance of a point from the outline of a shape that covers as much area as a circle of
/// radius 1, centred at the origin with y downwards; negative inside.
double shape_distance(ShapeKind shape, double x, double y);

/// How far the shape reaches from its centre, in radii of the circle with the same area.
double shape_reach(ShapeKind shape);

}  // namespace dalle
