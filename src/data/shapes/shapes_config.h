#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "core/config/config_checks.h"
#include "core/fields.h"

namespace dalle {

enum class ShapeKind { kCircle, kSquare, kTriangle, kDiamond, kStar, kCross, kRing, kCrescent };
enum class ShapeColor { kRed, kOrange, kYellow, kGreen, kCyan, kBlue, kPurple, kPink };
enum class ShapeSize { kSmall, kLarge };
enum class ShapeTexture { kSolid, kStriped, kDotted, kCheckered };
enum class ShapeBackground { kWhite, kGrey, kBlack };

/// The scenes and captions of a shapes data set: training, or a level of the compositional
/// benchmark.
enum class ShapesSplit { kTrain, kL0, kL1, kL2, kL3, kL4, kL5, kL6, kL7, kL8 };

constexpr auto enum_names(ShapeKind) {
  return names_in_order<ShapeKind>("circle", "square", "triangle", "diamond", "star", "cross",
                                   "ring", "crescent");
}
constexpr auto enum_names(ShapeColor) {
  return names_in_order<ShapeColor>("red", "orange", "yellow", "green", "cyan", "blue", "purple",
                                    "pink");
}
constexpr auto enum_names(ShapeSize) {
  return names_in_order<ShapeSize>("small", "large");
}
constexpr auto enum_names(ShapeTexture) {
  return names_in_order<ShapeTexture>("solid", "striped", "dotted", "checkered");
}
constexpr auto enum_names(ShapeBackground) {
  return names_in_order<ShapeBackground>("white", "grey", "black");
}
constexpr auto enum_names(ShapesSplit) {
  return names_in_order<ShapesSplit>("train", "L0", "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8");
}

/// The values in use: all values of the enum if the config lists none.
template <NamedEnum E>
std::vector<E> in_use(const std::vector<E>& chosen) {
  if (!chosen.empty()) return chosen;
  std::vector<E> all;
  for (const auto& [value, name] : enum_names(E{})) all.push_back(value);
  return all;
}

/// Whether the benchmark's levels L2 and L3 exclude a pair from training: `eighths` of all pairs, a
/// Latin square for each.
constexpr bool is_held_out_pair(ShapeKind shape, ShapeColor color, int64_t eighths) {
  return (static_cast<int64_t>(shape) + static_cast<int64_t>(color)) % 8 < eighths;
}

/// The built-in procedural data set: scenes of simple objects and captions that describe them.
struct ShapesConfig {
  int64_t samples = 200'000;
  int64_t validation_samples = 2'000;
  int64_t min_objects = 1;
  int64_t max_objects = 2;
  /// Attribute values in use; empty lists mean all of them.
  std::vector<ShapeKind> shapes;
  std::vector<ShapeColor> colors;
  std::vector<ShapeSize> sizes;
  std::vector<ShapeTexture> textures;
  std::vector<ShapeBackground> backgrounds;
  int64_t position_grid = 0;
  double unstated_attributes = 0.2;
  bool hold_out = true;
  int64_t held_out_pairs = 1;
  bool recolored_copies = false;

  bool operator==(const ShapesConfig&) const = default;

  void validate(const ConfigChecks& checks) const {
    checks.require(min_objects <= max_objects, "min_objects", {"max_objects"},
                   "found {}, expected at most {}, which is {}", min_objects,
                   checks.path("max_objects"), max_objects);
    checks.require(position_grid == 0 || position_grid >= 5, "position_grid", {},
                   "found {}, expected 0 or at least 5", position_grid);
    if (recolored_copies) check_recolored_copies(checks);
    if (held_out_pairs > 1) check_held_out_pairs(checks);
    checks.require_distinct(shapes, "shapes");
    checks.require_distinct(colors, "colors");
    checks.require_distinct(sizes, "sizes");
    checks.require_distinct(textures, "textures");
    checks.require_distinct(backgrounds, "backgrounds");
  }

  /// Training must show every shape and color that is in use.
  void check_held_out_pairs(const ConfigChecks& checks) const {
    checks.require(hold_out, "held_out_pairs", {"hold_out"},
                   "found {}, expected 1, since {} is false", held_out_pairs,
                   checks.path("hold_out"));
    const auto used_shapes = in_use(shapes);
    const auto used_colors = in_use(colors);
    const auto require = [&](bool is_shown, std::string_view name) {
      checks.require(is_shown, "held_out_pairs", {"shapes", "colors"},
                     "found {}, which leaves no {} in the training set", held_out_pairs, name);
    };
    for (const ShapeKind shape : used_shapes)
      require(std::ranges::any_of(used_colors,
                                  [&](ShapeColor color) {
                                    return !is_held_out_pair(shape, color, held_out_pairs);
                                  }),
              to_string(shape));
    for (const ShapeColor color : used_colors)
      require(std::ranges::any_of(
                  used_shapes,
                  [&](ShapeKind shape) { return !is_held_out_pair(shape, color, held_out_pairs); }),
              fmt::format("{} object", to_string(color)));
  }

  /// A large triangle is taller than half of an image.
  void check_recolored_copies(const ConfigChecks& checks) const {
    const auto require = [&](bool holds, std::string_view key, std::string_view expected) {
      checks.require(holds, key, {"recolored_copies"}, "expected {}, since {} is true", expected,
                     checks.path("recolored_copies"));
    };
    require(max_objects == 1, "max_objects", "1");
    require(sizes == std::vector{ShapeSize::kSmall}, "sizes", "[small]");
    require(colors.size() != 1, "colors", "more than one");
    require(position_grid == 0 || position_grid >= 16, "position_grid", "0 or at least 16");
    require(!hold_out, "hold_out", "false");
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("samples", self.samples, {.help = "scenes in the training set", .min = 1});
    visit("validation_samples", self.validation_samples,
          {.help = "scenes in the validation set", .min = 1});
    visit("min_objects", self.min_objects,
          {.help = "minimum number of objects in a scene", .min = 1, .max = 4});
    visit("max_objects", self.max_objects,
          {.help = "maximum number of objects in a scene", .min = 1, .max = 4});
    visit("shapes", self.shapes, {.help = "shapes in use; empty: all"});
    visit("colors", self.colors, {.help = "colors in use; empty: all"});
    visit("sizes", self.sizes, {.help = "sizes in use; empty: all"});
    visit("textures", self.textures, {.help = "textures in use; empty: all"});
    visit("backgrounds", self.backgrounds, {.help = "backgrounds in use; empty: all"});
    visit("position_grid", self.position_grid,
          {.help = "objects are centered in the cells of a grid with this many cells per side, and "
                   "each size has one radius; 0: anywhere, and radii vary by a few percent",
           .min = 0,
           .max = 256});
    visit("unstated_attributes", self.unstated_attributes,
          {.help = "probability that a caption omits an attribute (size, texture, background)",
           .min = 0,
           .max = 1});
    visit("hold_out", self.hold_out,
          {.help = "exclude the combinations of benchmark levels L2-L8 from the training set"});
    visit("held_out_pairs", self.held_out_pairs,
          {.help =
               "with hold_out: how many eighths of all 8 x 8 pairs of shape and color are excluded",
           .min = 1,
           .max = 6});
    visit("recolored_copies", self.recolored_copies,
          {.help = "an image-to-image task: a scene is an object in the upper half and its copy in "
                   "another color below it; captions state the color of the copy alone, so what "
                   "it looks like must be read from the upper half; requires max_objects: 1, "
                   "sizes: [small], at least two colors and hold_out: false"});
  }
};

}  // namespace dalle
