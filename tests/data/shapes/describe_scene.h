#pragma once

#include "data/shapes/shapes_description.h"

namespace dalle {

/// Describes a scene completely, including the relations.
inline ShapesDescription describe_scene(const ShapesScene& scene) {
  ShapesDescription description{
      .objects = {}, .relations = scene.relations, .background = scene.background};
  for (const ShapesObject& object : scene.objects)
    description.objects.push_back({.shape = object.shape,
                                   .color = object.color,
                                   .size = object.size,
                                   .texture = object.texture});
  return description;
}

}  // namespace dalle
