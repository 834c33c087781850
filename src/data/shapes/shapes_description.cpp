#include "data/shapes/shapes_description.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/ascii.h"
#include "core/error.h"

namespace dalle {
namespace {

std::vector<std::string> words_of(std::string_view caption) {
  std::string text = lower_case(caption);
  std::ranges::replace_if(
      text, [](char c) { return c == ',' || c == '.'; }, ' ');
  return split_words(text);
}

/// Reads the words of a caption from left to right.
class CaptionReader {
 public:
  explicit CaptionReader(std::string_view caption) : caption_(caption), words_(words_of(caption)) {}

  bool at_end() const { return next_ == words_.size(); }

  /// Reads the words of `phrase` if they come next.
  bool accept(std::string_view phrase) {
    const std::vector<std::string> expected = words_of(phrase);
    if (next_ + expected.size() > words_.size()) return false;
    for (size_t i = 0; i < expected.size(); ++i)
      if (words_[next_ + i] != expected[i]) return false;
    next_ += expected.size();
    return true;
  }

  template <NamedEnum E>
  bool accept_value(std::optional<E>& value) {
    for (const auto& [candidate, name] : enum_names(E{}))
      if (!value && accept(name)) {
        value = candidate;
        return true;
      }
    return false;
  }

  void expect(std::string_view what, bool found) const {
    if (found) return;
    const std::string place =
        at_end() ? "the end" : fmt::format("{:?} as word {}", words_[next_], next_ + 1);
    throw Error("caption {:?}: found {}, expected {}", caption_, place, what);
  }

 private:
  std::string_view caption_;
  std::vector<std::string> words_;
  size_t next_ = 0;
};

DescribedObject read_object(CaptionReader& reader) {
  reader.expect("a, an, one or the", reader.accept("a") || reader.accept("an") ||
                                         reader.accept("one") || reader.accept("the"));
  DescribedObject object;
  while (reader.accept_value(object.size) || reader.accept_value(object.texture) ||
         reader.accept_value(object.color)) {
  }
  reader.expect("a size, texture, color or shape", reader.accept_value(object.shape));
  return object;
}

std::optional<ShapeBackground> read_background(CaptionReader& reader) {
  std::optional<ShapeBackground> background;
  if (!reader.accept("on a")) return background;
  if (reader.accept("gray"))
    background = ShapeBackground::kGrey;
  else
    reader.expect("white, grey or black", reader.accept_value(background));
  reader.expect("background", reader.accept("background"));
  return background;
}

std::optional<ShapesRelation> read_relation(CaptionReader& reader) {
  using enum ShapesRelation;
  static constexpr std::array<std::pair<std::string_view, ShapesRelation>, 13> kPhrases = {
      {{"left of", kLeft},
       {"to the left of", kLeft},
       {"on the left side of", kLeft},
       {"right of", kRight},
       {"to the right of", kRight},
       {"on the right side of", kRight},
       {"above", kAbove},
       {"over", kAbove},
       {"on top of", kAbove},
       {"below", kBelow},
       {"under", kBelow},
       {"beneath", kBelow},
       {"underneath", kBelow}}};
  for (const auto& [phrase, relation] : kPhrases)
    if (reader.accept(phrase)) return relation;
  return std::nullopt;
}

/// The rest of "the same object in COLOR below".
ShapesDescription read_recolored_copy(CaptionReader& reader) {
  DescribedObject copy;
  reader.expect("a color", reader.accept_value(copy.color));
  reader.expect("below", reader.accept("below"));
  reader.expect("the end", reader.at_end());
  return {.objects = {{}, copy},
          .relations = {ShapesRelation::kAbove},
          .background = {},
          .is_copy = true};
}

/// "and the COLOR SHAPE" repeats the last object, as the first one of the next relation.
void read_repetition(CaptionReader& reader, const DescribedObject& last) {
  const DescribedObject again = read_object(reader);
  reader.expect("the color and shape of the previous object",
                again.shape == last.shape && again.color == last.color);
}

}  // namespace

ShapesDescription parse_shapes_caption(std::string_view caption) {
  CaptionReader reader(caption);
  if (reader.accept("the same object in")) return read_recolored_copy(reader);
  ShapesDescription description;
  description.background = read_background(reader);
  reader.accept("there is");
  description.objects.push_back(read_object(reader));
  while (!reader.at_end()) {
    if (!description.background && (description.background = read_background(reader))) continue;
    if (reader.accept("and")) read_repetition(reader, description.objects.back());
    const std::optional<ShapesRelation> relation = read_relation(reader);
    reader.expect("a relation or the end", relation.has_value());
    description.relations.push_back(*relation);
    description.objects.push_back(read_object(reader));
  }
  return description;
}

}  // namespace dalle
