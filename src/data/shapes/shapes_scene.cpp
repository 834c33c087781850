#include "data/shapes/shapes_scene.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/seeds.h"
#include "data/shapes/shape_outline.h"

namespace dalle {
namespace {

constexpr int kAttempts = 20'000;

template <class E>
int ordinal(E value) {
  return static_cast<int>(value);
}

template <class E>
E pick(const std::vector<E>& values, SeedStream& random) {
  return values[random.below(values.size())];
}

double between(double low, double high, SeedStream& random) {
  return low + (high - low) * random.uniform();
}

/// The minimum and maximum number of objects in the scenes of a split. L4 needs two objects to swap
/// attributes, L5 has four (training has up to three), and L6 has one relation.
std::pair<int64_t, int64_t> object_range(const ShapesConfig& config, ShapesSplit split) {
  const int64_t max_trained =
      config.hold_out ? std::min<int64_t>(config.max_objects, 3) : config.max_objects;
  switch (split) {
    case ShapesSplit::kL2:
      return {1, 1};
    case ShapesSplit::kL3:
      return {2, std::max<int64_t>(2, max_trained)};
    case ShapesSplit::kL4:
      return {2, 2};
    case ShapesSplit::kL5:
      return {4, 4};
    case ShapesSplit::kL6:
      return {2, 2};
    default:
      return {std::min(config.min_objects, max_trained), max_trained};
  }
}

struct HeldOut {
  bool pair = false, swap = false, relation = false, texture = false;
  bool any() const { return pair || swap || relation || texture; }
};

HeldOut held_out_parts(const ShapesScene& scene, int64_t held_out_pairs) {
  HeldOut found;
  for (size_t i = 0; i < scene.objects.size(); ++i) {
    const ShapesObject& object = scene.objects[i];
    found.pair |= is_held_out_pair(object.shape, object.color, held_out_pairs);
    found.texture |= is_held_out_texture(object.texture, object.color);
    if (i + 1 == scene.objects.size()) break;
    found.swap |= is_held_out_swap(object, scene.objects[i + 1], held_out_pairs);
    found.relation |=
        is_held_out_relation(object.shape, scene.relations[i], scene.objects[i + 1].shape);
  }
  return found;
}

/// Whether a scene is part of a split: of the held-out rules, only the split's own may apply.
bool belongs_to(const ShapesScene& scene, ShapesSplit split, const ShapesConfig& config) {
  HeldOut found = held_out_parts(scene, config.held_out_pairs);
  if (in_use(config.textures).size() == 1) found.texture = false;  // nothing to combine
  switch (split) {
    case ShapesSplit::kL2:
    case ShapesSplit::kL3:
      return found.pair && !found.swap && !found.relation && !found.texture;
    case ShapesSplit::kL4:
      return found.swap && !found.pair && !found.relation && !found.texture;
    case ShapesSplit::kL6:
      return found.relation && !found.pair && !found.swap && !found.texture;
    case ShapesSplit::kL8:
      return found.texture && !found.pair && !found.swap && !found.relation;
    default:
      return !config.hold_out || !found.any();
  }
}

bool relation_holds(const ShapesObject& a, ShapesRelation relation, const ShapesObject& b) {
  constexpr double kMinDistance = 0.15, kMinRatio = 1.4;
  const double dx = b.x - a.x, dy = b.y - a.y;
  const auto along = [](double main, double other) {
    return main >= kMinDistance && main >= kMinRatio * std::abs(other);
  };
  switch (relation) {
    case ShapesRelation::kLeft:
      return along(dx, dy);
    case ShapesRelation::kRight:
      return along(-dx, dy);
    case ShapesRelation::kAbove:
      return along(dy, dx);
    case ShapesRelation::kBelow:
      return along(-dy, dx);
  }
  throw Error("unknown relation {}", ordinal(relation));
}

/// Whether object `i` is far enough from the earlier ones and has its relation to the previous one.
bool fits(const ShapesScene& scene, size_t i) {
  const ShapesObject& object = scene.objects[i];
  for (size_t j = 0; j < i; ++j) {
    const ShapesObject& other = scene.objects[j];
    const double distance = std::hypot(object.x - other.x, object.y - other.y);
    if (distance <= 1.4 * (object.radius + other.radius) + 0.03) return false;
  }
  return i == 0 || relation_holds(scene.objects[i - 1], scene.relations[i - 1], object);
}

/// A random coordinate for the center of an object that extends `reach` to each side and must stay
/// in the first `part` of the image: anywhere if `grid` is 0, or else at the center of one of
/// `grid` cells. Nothing if there is no room.
std::optional<double> coordinate(double reach, double part, int64_t grid, SeedStream& random) {
  if (2 * reach > part) return std::nullopt;
  if (grid == 0) return between(reach, part - reach, random);
  const auto cells = static_cast<double>(grid);
  const double first = std::ceil(reach * cells - 0.5);
  const double last = std::floor((part - reach) * cells - 0.5);
  if (last < first) return std::nullopt;
  return (first + std::floor(random.uniform() * (last - first + 1)) + 0.5) / cells;
}

/// Samples radii and positions, one object at a time; returns false if an object does not fit.
/// @param height  the part of the image, from the top, that may have objects
bool place(ShapesScene& scene, double height, int64_t grid, SeedStream& random) {
  constexpr double kMargin = 0.02;
  constexpr int kPositions = 100;
  for (size_t i = 0; i < scene.objects.size(); ++i) {
    ShapesObject& object = scene.objects[i];
    const auto [low, high] =
        object.size == ShapeSize::kSmall ? std::pair{0.115, 0.125} : std::pair{0.18, 0.20};
    object.radius = grid == 0 ? between(low, high, random) : (low + high) / 2;
    const double reach = shape_reach(object.shape) * object.radius + kMargin;
    int tries = 0;
    do {
      if (tries++ == kPositions) return false;
      const auto x = coordinate(reach, 1, grid, random);
      const auto y = coordinate(reach, height, grid, random);
      if (!x || !y) return false;
      object.x = *x;
      object.y = *y;
    } while (!fits(scene, i));
  }
  return true;
}

ShapesScene sample_attributes(const ShapesConfig& config, ShapesSplit split, SeedStream& random) {
  ShapesScene scene;
  scene.background = pick(in_use(config.backgrounds), random);
  const auto [min_objects, max_objects] = object_range(config, split);
  const auto count =
      min_objects +
      static_cast<int64_t>(random.below(static_cast<uint64_t>(max_objects - min_objects + 1)));
  for (int64_t i = 0; i < count; ++i) {
    scene.objects.push_back({.shape = pick(in_use(config.shapes), random),
                             .color = pick(in_use(config.colors), random),
                             .size = pick(in_use(config.sizes), random),
                             .texture = pick(in_use(config.textures), random)});
    if (i > 0) scene.relations.push_back(static_cast<ShapesRelation>(random.below(4)));
  }
  return scene;
}

/// Adds, in the lower half, a copy of the object in the upper half, in another color.
void add_recolored_copy(ShapesScene& scene, const ShapesConfig& config, SeedStream& random) {
  std::vector<ShapeColor> others = in_use(config.colors);
  std::erase(others, scene.objects.front().color);
  ShapesObject copy = scene.objects.front();
  copy.color = pick(others, random);
  copy.y += 0.5;
  scene.objects.push_back(copy);
  scene.relations.push_back(ShapesRelation::kAbove);
}

bool all_distinct(const ShapesScene& scene) {
  for (size_t i = 0; i < scene.objects.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (scene.objects[i].shape == scene.objects[j].shape &&
          scene.objects[i].color == scene.objects[j].color)
        return false;
  return true;
}

}  // namespace

bool is_held_out_swap(const ShapesObject& first, const ShapesObject& second,
                      int64_t held_out_pairs) {
  // Training contains all four pairs of shape and color, but not this combination of two of them.
  if (first.shape == second.shape || first.color == second.color) return false;
  for (const auto shape : {first.shape, second.shape})
    for (const auto color : {first.color, second.color})
      if (is_held_out_pair(shape, color, held_out_pairs)) return false;
  const auto pair = [](const ShapesObject& object) {
    return 8 * ordinal(object.shape) + ordinal(object.color);
  };
  const int a = pair(first), b = pair(second);
  const int low = std::min(a, b), high = std::max(a, b);
  return mix_bits(64 * static_cast<uint64_t>(low) + static_cast<uint64_t>(high)) % 8 == 0;
}

bool is_held_out_relation(ShapeKind first, ShapesRelation relation, ShapeKind second) {
  // "A right of B" means "B left of A", so both are held out together.
  if (relation == ShapesRelation::kRight)
    return is_held_out_relation(second, ShapesRelation::kLeft, first);
  if (relation == ShapesRelation::kBelow)
    return is_held_out_relation(second, ShapesRelation::kAbove, first);
  const int vertical = relation == ShapesRelation::kAbove ? 1 : 0;
  return (ordinal(first) + 3 * ordinal(second) + 4 * vertical) % 8 == 0;
}

bool is_held_out_texture(ShapeTexture texture, ShapeColor color) {
  return (ordinal(texture) + ordinal(color)) % 4 == 0;
}

ShapesScene sample_scene(const ShapesConfig& config, uint64_t seed, ShapesSplit split,
                         int64_t index) {
  SeedStream random(derive_seed(seed, SeedPurpose::kShapesScene, static_cast<uint64_t>(split),
                                static_cast<uint64_t>(index)));
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ShapesScene scene = sample_attributes(config, split, random);
    if (!all_distinct(scene) || !belongs_to(scene, split, config)) continue;
    const double height = config.recolored_copies ? 0.5 : 1;
    for (int placement = 0; placement < 10; ++placement) {
      if (!place(scene, height, config.position_grid, random)) continue;
      if (config.recolored_copies) add_recolored_copy(scene, config, random);
      return scene;
    }
  }
  throw Error("data.shapes: no scene of split {} has these attributes and numbers of objects",
              to_string(split));
}

}  // namespace dalle
