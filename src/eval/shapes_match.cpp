#include "eval/shapes_match.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "data/shapes/shape_outline.h"

namespace dalle {
namespace {

/// For each described object, the index of its detected object; none for missing objects.
using Assignment = std::vector<std::optional<size_t>>;

/// Calls `use` with the stated value of an attribute, its member in DetectedObject and its counter
/// in ShapesMatch, for each attribute of objects.
template <class Use>
void for_each_attribute(Use&& use) {
  use(&DescribedObject::shape, &DetectedObject::shape, &ShapesMatch::shape);
  use(&DescribedObject::color, &DetectedObject::color, &ShapesMatch::color);
  use(&DescribedObject::size, &DetectedObject::size, &ShapesMatch::size);
  use(&DescribedObject::texture, &DetectedObject::texture, &ShapesMatch::texture);
}

int right_attributes(const DescribedObject& described, const DetectedObject& object) {
  int right = 0;
  for_each_attribute([&](auto stated, auto seen, auto) {
    right += (described.*stated) && (described.*stated) == object.*seen;
  });
  return right;
}

bool relation_is_right(const ShapesDescription& description, const DetectedScene& detected,
                       const Assignment& assignment, size_t i) {
  return assignment[i] && assignment[i + 1] &&
         relation_of(detected.objects[*assignment[i]], detected.objects[*assignment[i + 1]]) ==
             description.relations[i];
}

/// The first of the best assignments of the largest detected objects, of which it tries all.
Assignment best_assignment(const ShapesDescription& description, const DetectedScene& detected) {
  // Captions describe up to four; an image of noise may have a hundred.
  constexpr size_t kMostObjects = 8;
  // One attribute counts more than all relations together.
  constexpr int kAttribute = 100;
  const size_t described = description.objects.size();
  const size_t found = std::min(detected.objects.size(), kMostObjects);
  // The described objects get the first of a permutation of the detected ones; `found` is none.
  std::vector<size_t> order(std::max(described, found), found);
  const auto rest = order.begin() + static_cast<std::ptrdiff_t>(described);
  std::iota(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(found), size_t{0});
  Assignment best;
  int best_score = -1;
  do {
    Assignment assignment(described);
    int score = 0;
    for (size_t i = 0; i < described; ++i) {
      if (order[i] == found) continue;
      assignment[i] = order[i];
      score += kAttribute * right_attributes(description.objects[i], detected.objects[order[i]]);
    }
    for (size_t r = 0; r < description.relations.size(); ++r)
      score += relation_is_right(description, detected, assignment, r);
    if (score > best_score) {
      best_score = score;
      best = std::move(assignment);
    }
    std::reverse(rest, order.end());  // skips the permutations that differ only in the rest
  } while (std::ranges::next_permutation(order).found);
  return best;
}

/// Whether an object that should not have the value of an attribute has it.
template <class Stated, class Seen>
bool is_misplaced(const ShapesDescription& description, const DetectedScene& detected,
                  const Assignment& assignment, size_t i, Stated stated, Seen seen) {
  const auto& value = description.objects[i].*stated;
  for (size_t j = 0; j < detected.objects.size(); ++j) {
    if (detected.objects[j].*seen != *value) continue;
    const auto owner = std::ranges::find(assignment, std::optional(j));
    if (owner == assignment.end()) return true;
    const auto& expected =
        description.objects[static_cast<size_t>(owner - assignment.begin())].*stated;
    if (expected && *expected != *value) return true;
  }
  return false;
}

void count_attributes(const ShapesDescription& description, const DetectedScene& detected,
                      const Assignment& assignment, ShapesMatch& match) {
  for (size_t i = 0; i < assignment.size(); ++i)
    for_each_attribute([&](auto stated, auto seen, auto counter) {
      const auto& value = description.objects[i].*stated;
      if (!value) return;
      const bool is_right = assignment[i] && detected.objects[*assignment[i]].*seen == *value;
      match.*counter += {.right = is_right, .stated = 1};
      if (is_right || !assignment[i]) return;
      if (is_misplaced(description, detected, assignment, i, stated, seen))
        ++match.errors.binding;
      else
        ++match.errors.wrong_values;
    });
}

/// What a description of a copy says in view of the original, the uppermost object.
ShapesDescription completed(ShapesDescription description, const DetectedScene& detected) {
  const auto original = std::ranges::min_element(detected.objects, {}, &DetectedObject::y);
  if (!description.is_copy || original == detected.objects.end()) return description;
  for (DescribedObject& object : description.objects)
    for_each_attribute([&](auto stated, auto seen, auto) {
      if (!(object.*stated)) object.*stated = (*original).*seen;
    });
  return description;
}

bool is_above(double edge, const DetectedObject& object) {
  constexpr double kUnknownReach = 1.5;
  const double reach = object.shape ? shape_reach(*object.shape) : kUnknownReach;
  return object.y + reach * object.radius <= edge;
}

double distance_between(const DetectedObject& a, const DetectedObject& b) {
  return std::hypot(a.x - b.x, a.y - b.y);
}

bool is_same(const DetectedObject& a, const DetectedObject& b) {
  constexpr double kSamePlace = 0.25;  // of the radius: two pixels of an image of 64
  return a.shape == b.shape && a.color == b.color && a.size == b.size && a.texture == b.texture &&
         distance_between(a, b) <= kSamePlace * a.radius;
}

}  // namespace

StatedValues ShapesMatch::atoms() const {
  StatedValues all{.right = count, .stated = 1};
  for (const auto& [name, values] : kStatedValues) all += this->*values;
  return all;
}

ShapesMatch match_shapes(const ShapesDescription& given, const DetectedScene& detected) {
  const ShapesDescription description = completed(given, detected);
  const auto described = static_cast<int64_t>(description.objects.size());
  const auto found = static_cast<int64_t>(detected.objects.size());
  const Assignment assignment = best_assignment(description, detected);
  ShapesMatch match;
  match.count = described == found;
  match.errors.missing_objects = std::max<int64_t>(described - found, 0);
  match.errors.extra_objects = std::max<int64_t>(found - described, 0);
  count_attributes(description, detected, assignment, match);
  for (size_t i = 0; i < description.relations.size(); ++i)
    match.relation +=
        {.right = relation_is_right(description, detected, assignment, i), .stated = 1};
  if (description.background)
    match.background = {.right = detected.background == description.background, .stated = 1};
  // Whether an object without a known shape was copied cannot be known.
  if (description.is_copy && !description.objects.back().shape) match.shape.stated += 1;
  const StatedValues atoms = match.atoms();
  match.exact = atoms.right == atoms.stated;
  return match;
}

ShapesMatch judge_image(std::string_view caption, const RgbImage& image) {
  return match_shapes(parse_shapes_caption(caption), detect_shapes(image));
}

bool has_same_objects_above(double edge, const DetectedScene& scene, const DetectedScene& other) {
  const auto is_kept = [&](const DetectedObject& object) {
    return !is_above(edge, object) ||
           std::ranges::any_of(other.objects, [&](const auto& o) { return is_same(object, o); });
  };
  const auto is_known = [&](const DetectedObject& object) {
    return !is_above(edge, object) || std::ranges::any_of(scene.objects, [&](const auto& known) {
      return distance_between(known, object) <= known.radius;
    });
  };
  return std::ranges::all_of(scene.objects, is_kept) &&
         std::ranges::all_of(other.objects, is_known);
}

}  // namespace dalle
