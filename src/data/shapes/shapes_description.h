#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "data/shapes/shapes_scene.h"

namespace dalle {

/// What a caption says about an object; attributes without a value may be anything.
struct DescribedObject {
  std::optional<ShapeKind> shape;
  std::optional<ShapeColor> color;
  std::optional<ShapeSize> size;
  std::optional<ShapeTexture> texture;

  bool operator==(const DescribedObject&) const = default;
};

/// What a caption says about an image. The image contains these objects and no others.
struct ShapesDescription {
  std::vector<DescribedObject> objects;
  std::vector<ShapesRelation> relations;  ///< of each object to the next one
  std::optional<ShapeBackground> background;
  /// Whether the second of two objects is like the first in all that is not stated of it.
  bool is_copy = false;

  bool operator==(const ShapesDescription&) const = default;
};

/// Parses a caption that follows the grammar of shapes_caption(), in the training phrasing or the
/// held-out one; adjectives may come in any order.
///
/// @throws dalle::Error naming the caption and the first unexpected word
ShapesDescription parse_shapes_caption(std::string_view caption);

}  // namespace dalle
