#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "data/shapes/shapes_description.h"
#include "eval/shapes_judge.h"

namespace dalle {

/// How many stated values of one kind an image shows correctly.
struct StatedValues {
  int64_t right = 0;
  int64_t stated = 0;

  StatedValues& operator+=(const StatedValues& other) {
    right += other.right;
    stated += other.stated;
    return *this;
  }
  bool operator==(const StatedValues&) const = default;
};

/// How an image differs from its description. An attribute that is not shown correctly belongs to a
/// missing object, is a binding error, or is a wrong value.
struct ShapesErrors {
  int64_t missing_objects = 0;  ///< described, but not assigned a detected object
  int64_t extra_objects = 0;    ///< more than described
  int64_t wrong_values = 0;     ///< wrong, but not a binding error
  int64_t binding = 0;          ///< the value is on an object that should not have it

  ShapesErrors& operator+=(const ShapesErrors& other) {
    missing_objects += other.missing_objects;
    extra_objects += other.extra_objects;
    wrong_values += other.wrong_values;
    binding += other.binding;
    return *this;
  }
};

/// How well an image matches a description.
struct ShapesMatch {
  bool exact = false;  ///< everything stated is correct, and there are no other objects
  bool count = false;  ///< as many objects as described
  StatedValues shape, color, size, texture, background, relation;
  ShapesErrors errors;

  /// All stated values and the number of objects: the atoms of GenEval 2.
  StatedValues atoms() const;
};

/// The kinds of stated values, by their names in results.
inline constexpr auto kStatedValues =
    std::to_array<std::pair<std::string_view, StatedValues ShapesMatch::*>>(
        {{"shape", &ShapesMatch::shape},
         {"color", &ShapesMatch::color},
         {"size", &ShapesMatch::size},
         {"texture", &ShapesMatch::texture},
         {"background", &ShapesMatch::background},
         {"relation", &ShapesMatch::relation}});

/// Compares what the judge sees with a description. Assigns a detected object to each described one
/// so that as many attributes as possible are correct and, among those assignments, as many
/// relations as possible. Attributes that are not stated may have any value, except those of a
/// copy, which must be like those of the uppermost object.
ShapesMatch match_shapes(const ShapesDescription& description, const DetectedScene& detected);

/// Judges whether an image shows what a caption of the data set shapes says.
ShapesMatch judge_image(std::string_view caption, const RgbImage& image);

/// Whether the objects that lie wholly above an edge are the same in both scenes: the same shape,
/// color, size and texture at the same place. An object of `other` there may also be what is above
/// the edge of an object of `scene` that crosses it.
///
/// @param edge  distance from the top, as a fraction of the image's side
bool has_same_objects_above(double edge, const DetectedScene& scene, const DetectedScene& other);

}  // namespace dalle
