#include "data/shapes/shapes_caption.h"

#include <span>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace dalle {
namespace {

/// The optional attributes that a caption mentions.
struct Mentioned {
  bool size, texture, background;
};

Mentioned choose_mentioned(const ShapesConfig& config, SeedStream& random) {
  const auto mentions = [&](size_t values_in_use) {
    // Always uses a random number, so that the stream is the same for all configs.
    const bool is_chosen = random.uniform() >= config.unstated_attributes;
    return is_chosen && values_in_use != 1;
  };
  return {.size = mentions(config.sizes.size()),
          .texture = mentions(config.textures.size()),
          .background = mentions(config.backgrounds.size())};
}

std::string with_article(const std::string& phrase) {
  return (std::string_view("aeiou").find(phrase.front()) == std::string_view::npos ? "a " : "an ") +
         phrase;
}

std::string object_phrase(const ShapesObject& object, const Mentioned& mentioned) {
  std::string phrase;
  if (mentioned.size) phrase += std::string(to_string(object.size)) + " ";
  if (mentioned.texture) phrase += std::string(to_string(object.texture)) + " ";
  phrase += to_string(object.color);
  phrase += " ";
  phrase += to_string(object.shape);
  return with_article(phrase);
}

std::string relation_phrase(ShapesRelation relation, ShapesPhrasing phrasing, SeedStream& random) {
  using Phrases = std::vector<std::string_view>;
  const bool training = phrasing == ShapesPhrasing::kTraining;
  const Phrases phrases = [&]() -> Phrases {
    switch (relation) {
      case ShapesRelation::kLeft:
        return training ? Phrases{"left of", "to the left of"} : Phrases{"on the left side of"};
      case ShapesRelation::kRight:
        return training ? Phrases{"right of", "to the right of"} : Phrases{"on the right side of"};
      case ShapesRelation::kAbove:
        return training ? Phrases{"above", "over"} : Phrases{"on top of"};
      case ShapesRelation::kBelow:
        return training ? Phrases{"below", "under"} : Phrases{"beneath"};
    }
    throw Error("unknown relation {}", static_cast<int>(relation));
  }();
  return std::string(phrases[random.below(phrases.size())]);
}

}  // namespace

std::string shapes_caption(const ShapesScene& scene, const ShapesConfig& config,
                           ShapesPhrasing phrasing, SeedStream& random) {
  const Mentioned mentioned = choose_mentioned(config, random);
  std::string objects = object_phrase(scene.objects.front(), mentioned);
  for (size_t i = 0; i + 1 < scene.objects.size(); ++i) {
    if (i > 0)
      objects += ", and the " + std::string(to_string(scene.objects[i].color)) + " " +
                 std::string(to_string(scene.objects[i].shape));
    objects += " " + relation_phrase(scene.relations[i], phrasing, random) + " " +
               object_phrase(scene.objects[i + 1], mentioned);
  }
  const std::string background = std::string(to_string(scene.background)) + " background";
  if (phrasing == ShapesPhrasing::kHeldOut) {
    if (mentioned.background) return "on a " + background + ", " + objects;
    return "there is " + objects;
  }
  return mentioned.background ? objects + " on a " + background : objects;
}

}  // namespace dalle
