#pragma once

#include <optional>
#include <vector>

#include "data/image/rgb_image.h"
#include "data/shapes/shapes_scene.h"

namespace dalle {

/// What the judge sees of an object.
struct DetectedObject {
  std::optional<ShapeKind> shape = std::nullopt;   ///< none if it resembles no shape
  std::optional<ShapeColor> color = std::nullopt;  ///< none if it is gray, white or black
  ShapeSize size = ShapeSize::kLarge;
  ShapeTexture texture = ShapeTexture::kSolid;  ///< kSolid without a color
  double x = 0.5;                               ///< centroid, as a fraction of the image's side
  double y = 0.5;                               ///< measured from the top
  double radius = 0.1;  ///< of the circle with the same area, as a fraction of the side
};

/// What the judge sees in an image.
struct DetectedScene {
  std::vector<DetectedObject> objects;        ///< largest first
  std::optional<ShapeBackground> background;  ///< none if the image's border is colored
};

/// Recovers the background and the objects of an image of the shapes data set from its pixels. The
/// procedure is fixed and has no learned parts: objects are what differs from the border's color,
/// and each gets the likeliest shape, color, size and texture; no shape or color if none fits.
/// docs/evaluation.md describes the steps and their accuracy on rendered scenes.
///
/// @param image  square, of at least 16 pixels
DetectedScene detect_shapes(const RgbImage& image);

/// The relation of an object to another: the one along the axis on which they are farther apart.
ShapesRelation relation_of(const DetectedObject& first, const DetectedObject& second);

}  // namespace dalle
