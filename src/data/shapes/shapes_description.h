#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "data/shapes/shapes_scene.h"

namespace dalle {

/// What a caption says of an object; attributes without a value may be anything.
struct DescribedObject {
  std::optional<ShapeKind> shape;
  std::optional<ShapeColor> color;
  std::optional<ShapeSize> size;
  std::optional<ShapeTexture> texture;

  bool operator==(const DescribedObject&) const = default;
};

/// What a caption says of an image: its objects and nothing else on the background.
struct ShapesDescription {
  std::vector<DescribedObject> objects;
  std::vector<ShapesRelation> relations;  ///< of each object to the next one
  std::optional<ShapeBackground> background;

  bool operator==(const ShapesDescription&) const = default;
};

/// All that is true of a scene, relations included.
ShapesDescription describe_scene(const ShapesScene& scene);

/// Reads a caption of the grammar of shapes_caption(), in the phrasing of training or in the one
/// held out; adjectives may have any order.
///
/// @throws dalle::Error naming the caption and the first word that is not expected there
ShapesDescription parse_shapes_caption(std::string_view caption);

}  // namespace dalle
