#pragma once

#include <string>

#include "dalle/core/seeds.h"
#include "dalle/data/shapes_scene.h"

namespace dalle {

/// Which ways of saying a scene are used: two are kept for the benchmark's level L7.
enum class ShapesPhrasing { kTraining, kHeldOut };

/// A caption of a scene by the benchmark's grammar, for one object
///
///     a [SIZE] [TEXTURE] COLOR SHAPE [on a BACKGROUND background]
///
/// and for more a chain "A left of B, and B above C". Colour and shape are always said; size,
/// texture and background are left out with the probability config.unstated_attributes each, and
/// always where only one value is in use.
std::string shapes_caption(const ShapesScene& scene, const ShapesConfig& config,
                           ShapesPhrasing phrasing, SeedStream& random);

}  // namespace dalle
