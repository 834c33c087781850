#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/seeds.h"
#include "data/shapes/shapes_scene.h"

namespace dalle {

/// The phrases that captions use: those of training, or those held out for benchmark level L7.
enum class ShapesPhrasing { kTraining, kHeldOut };

/// Generates a caption of a scene. The grammar for one object is
///
///     a [SIZE] [TEXTURE] COLOR SHAPE [on a BACKGROUND background]
///
/// and several objects form a chain: "A left of B, and B above C". Color and shape are always
/// mentioned. Size, texture and background are each omitted with probability
/// config.unstated_attributes, and always if only one value is in use.
///
/// With config.recolored_copies, it is "the same object in COLOR below".
std::string shapes_caption(const ShapesScene& scene, const ShapesConfig& config,
                           ShapesPhrasing phrasing, SeedStream& random);

/// A caption by shapes_caption() with the colors of its first and last object exchanged or, if they
/// are equal, their shapes. It consists of the same words, because a caption of several objects
/// repeats only those in between.
/// @return  nothing for captions of one object
std::optional<std::string> swap_shapes_attributes(std::string_view caption);

}  // namespace dalle
