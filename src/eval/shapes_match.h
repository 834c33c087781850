#pragma once

#include <cstdint>

#include "data/shapes/shapes_description.h"
#include "eval/shapes_judge.h"

namespace dalle {

/// How many of the stated values of a kind an image shows.
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

/// How an image differs from its description. Attributes of the description that are not right are
/// one of: of a missing object, a binding error, or a wrong value.
struct ShapesErrors {
  int64_t missing_objects = 0;  ///< described, but no object is left for them
  int64_t extra_objects = 0;    ///< more than described
  int64_t wrong_values = 0;     ///< no object wrongly has the value of the attribute either
  int64_t binding = 0;          ///< the value is on an object that should not have it
};

/// The judgement of an image against a description.
struct ShapesMatch {
  bool exact = false;  ///< all that is stated is right, and there are no other objects
  bool count = false;  ///< as many objects as described
  StatedValues shape, color, size, texture, background, relation;
  ShapesErrors errors;

  /// All stated values and the number of objects: the atoms of GenEval 2.
  StatedValues atoms() const;
};

/// Compares what the judge sees with a description. Each described object is assigned a detected
/// one, such that the most attributes and then the most relations are right; attributes that are
/// not stated may have any value.
ShapesMatch match_shapes(const ShapesDescription& description, const DetectedScene& detected);

}  // namespace dalle
