#pragma once

#include <cstdint>
#include <vector>

#include "core/fields.h"
#include "data/shapes/shapes_config.h"

namespace dalle {

struct ShapesObject {
  ShapeKind shape = ShapeKind::kCircle;
  ShapeColor color = ShapeColor::kRed;
  ShapeSize size = ShapeSize::kLarge;
  ShapeTexture texture = ShapeTexture::kSolid;
  double x = 0.5;       ///< center, as a fraction of the image's side
  double y = 0.5;       ///< measured from the top
  double radius = 0.1;  ///< of the circle with the same area, as a fraction of the side

  bool operator==(const ShapesObject&) const = default;
};

/// The position of an object relative to the next one: "A left of B".
enum class ShapesRelation { kLeft, kRight, kAbove, kBelow };

constexpr auto enum_names(ShapesRelation) {
  return names_in_order<ShapesRelation>("left", "right", "above", "below");
}

struct ShapesScene {
  std::vector<ShapesObject> objects;
  std::vector<ShapesRelation> relations;  ///< of each object to the next one
  ShapeBackground background = ShapeBackground::kWhite;

  bool operator==(const ShapesScene&) const = default;
};

/// Whether the benchmark excludes a combination from training in order to test it. Each rule is a
/// Latin square: of all values, it holds out each one equally often. For pairs of shape and color
/// (L2, L3), see is_held_out_pair().
///
/// @param held_out_pairs  of the config
bool is_held_out_swap(const ShapesObject& first, const ShapesObject& second,
                      int64_t held_out_pairs);                                          ///< L4
bool is_held_out_relation(ShapeKind first, ShapesRelation relation, ShapeKind second);  ///< L6
bool is_held_out_texture(ShapeTexture texture, ShapeColor color);                       ///< L8

/// Generates scene `index` of a split, a pure function of the arguments.
/// @throws dalle::Error if the config's attributes allow no scene of the split
ShapesScene sample_scene(const ShapesConfig& config, uint64_t seed, ShapesSplit split,
                         int64_t index);

}  // namespace dalle
