#pragma once

#include <cstdint>

#include "data/image/rgb_image.h"
#include "data/shapes/shapes_scene.h"

namespace dalle {

/// Renders a scene at any size: solid or textured objects on a plain background, anti-aliased by
/// the signed distance of each pixel's center from the object's outline.
RgbImage render_scene(const ShapesScene& scene, int64_t image_size);

/// The period of textures, as a fraction of the image's side.
inline constexpr double kTexturePeriod = 0.11;

/// Channels in [0, 255].
struct ShapeRgb {
  double red, green, blue;
};

/// The first tone of an object; textures add a second one, which is darker.
ShapeRgb rgb_of(ShapeColor color);

/// The gray level of a background, in [0, 255].
double gray_of(ShapeBackground background);

/// Returns the share of the second tone, in [0, 1], at a point relative to the object's center.
///
/// @param x, y, period  in pixels, because edges between the tones are one pixel wide
double second_tone(ShapeTexture texture, double x, double y, double period);

}  // namespace dalle
