#include "data/shapes/shapes_caption.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>

#include "core/ascii.h"
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

std::string article_of(const std::string& phrase) {
  return std::string_view("aeiou").find(phrase.front()) == std::string_view::npos ? "a" : "an";
}

std::string object_phrase(const ShapesObject& object, const Mentioned& mentioned) {
  std::string phrase;
  if (mentioned.size) phrase += std::string(to_string(object.size)) + " ";
  if (mentioned.texture) phrase += std::string(to_string(object.texture)) + " ";
  phrase += to_string(object.color);
  phrase += " ";
  phrase += to_string(object.shape);
  return article_of(phrase) + " " + phrase;
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

std::string_view without_comma(std::string_view word) {
  return word.ends_with(',') ? word.substr(0, word.size() - 1) : word;
}

/// Exchanges the first and the last word that name a value of the enum, but not the commas after
/// them. Returns false if they are equal.
template <NamedEnum E>
bool swap_values(std::vector<std::string>& words) {
  const auto names_value = [](const std::string& word) {
    return std::ranges::any_of(
        enum_names(E{}), [&](const auto& entry) { return entry.second == without_comma(word); });
  };
  const auto first = std::ranges::find_if(words, names_value);
  if (first == words.end()) return false;
  const auto last = std::find_if(words.rbegin(), words.rend(), names_value);
  const std::string a(without_comma(*first)), b(without_comma(*last));
  if (a == b) return false;
  first->replace(0, a.size(), b);
  last->replace(0, b.size(), a);
  return true;
}

}  // namespace

std::string shapes_caption(const ShapesScene& scene, const ShapesConfig& config,
                           ShapesPhrasing phrasing, SeedStream& random) {
  if (config.recolored_copies)
    return fmt::format("the same object in {} below", to_string(scene.objects.back().color));
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

std::optional<std::string> swap_shapes_attributes(std::string_view caption) {
  std::vector<std::string> words = split_words(caption);
  if (!swap_values<ShapeColor>(words) && !swap_values<ShapeKind>(words)) return std::nullopt;
  for (size_t i = 0; i + 1 < words.size(); ++i)
    if (words[i] == "a" || words[i] == "an") words[i] = article_of(words[i + 1]);
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace dalle
