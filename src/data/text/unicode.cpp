#include "data/text/unicode.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "core/utf8.h"

namespace dalle {
namespace {

struct CodeRange {
  char32_t first, last;
};

struct LowerCaseRun {
  char32_t first, last, stride;
  int32_t added;
};

struct ClassRange {
  char32_t first, last;
  int combining_class;
};

struct Composition {
  char32_t first, second, composed;  // second may be 0: none
};

#include "data/text/unicode_tables.inc"

/// The range that may contain the character; null if there is none.
template <class Range>
const Range* range_of(std::span<const Range> sorted, char32_t character) {
  const auto next = std::ranges::upper_bound(sorted, character, {}, &Range::first);
  if (next == sorted.begin() || std::prev(next)->last < character) return nullptr;
  return &*std::prev(next);
}

bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

int combining_class(char32_t character) {
  const ClassRange* const found =
      range_of(std::span<const ClassRange>(kCombiningClasses), character);
  return found == nullptr ? 0 : found->combining_class;
}

// Hangul syllables are a leading consonant, a vowel and perhaps a trailing consonant.
constexpr char32_t kSyllables = 0xac00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11a7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

void add_decomposed(char32_t character, std::u32string& text) {
  static const auto parts_of = [] {
    std::unordered_map<char32_t, std::pair<char32_t, char32_t>> parts;
    for (const std::span<const Composition> list :
         {std::span<const Composition>(kCompositions),
          std::span<const Composition>(kOtherDecompositions)})
      for (const auto& [first, second, whole] : list) parts[whole] = {first, second};
    return parts;
  }();
  if (const char32_t s = character - kSyllables; s < kSyllableCount) {
    text.push_back(kLeading + s / (kVowelCount * kTrailingCount));
    text.push_back(kVowels + s / kTrailingCount % kVowelCount);
    if (s % kTrailingCount != 0) text.push_back(kTrailing + s % kTrailingCount);
  } else if (const auto found = parts_of.find(character); found != parts_of.end()) {
    add_decomposed(found->second.first, text);
    if (found->second.second != 0) add_decomposed(found->second.second, text);
  } else {
    text += character;
  }
}

/// The character that both are together.
std::optional<char32_t> composition_of(char32_t first, char32_t second) {
  const char32_t leading = first - kLeading, vowel = second - kVowels;
  if (leading < kLeadingCount && vowel < kVowelCount)
    return kSyllables + (leading * kVowelCount + vowel) * kTrailingCount;
  const char32_t syllable = first - kSyllables, trailing = second - kTrailing;
  if (syllable < kSyllableCount && syllable % kTrailingCount == 0 && trailing > 0 &&
      trailing < kTrailingCount)
    return first + trailing;
  const auto found = std::ranges::lower_bound(
      kCompositions, std::tuple(first, second), {},
      [](const Composition& one) { return std::tuple(one.first, one.second); });
  if (found == std::end(kCompositions) || found->first != first || found->second != second)
    return std::nullopt;
  return found->composed;
}

/// Sorts each run of combining characters by their class.
void sort_marks(std::u32string& text) {
  for (auto begin = text.begin(); begin != text.end();) {
    const auto is_starter = [](char32_t c) { return combining_class(c) == 0; };
    begin = std::find_if_not(begin, text.end(), is_starter);
    const auto end = std::find_if(begin, text.end(), is_starter);
    std::stable_sort(
        begin, end, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

}  // namespace

CharacterKind kind_of(char32_t character) {
  if (is_space(character)) return CharacterKind::kSpace;
  if (range_of(std::span<const CodeRange>(kLetters), character)) return CharacterKind::kLetter;
  if (range_of(std::span<const CodeRange>(kNumbers), character)) return CharacterKind::kNumber;
  return CharacterKind::kOther;
}

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text[i]);
    char32_t point = static_cast<uint8_t>(text[i]) & (length == 1 ? 0x7f : 0x7f >> length);
    for (size_t k = 1; k < length; ++k)
      point = point << 6 | (static_cast<uint8_t>(text[i + k]) & 0x3f);
    points += point;
    i += length;
  }
  return points;
}

std::string utf8_of(std::u32string_view text) {
  std::string bytes;
  for (const char32_t point : text) {
    const int more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    constexpr char32_t kLeads[] = {0, 0xc0, 0xe0, 0xf0};
    bytes += static_cast<char>(kLeads[more] | point >> (6 * more));
    for (int k = more - 1; k >= 0; --k)
      bytes += static_cast<char>(0x80 | (point >> (6 * k) & 0x3f));
  }
  return bytes;
}

std::u32string composed(std::u32string_view text) {
  constexpr char32_t kFirstMark = 0x300;  // characters before it do not change
  if (std::ranges::all_of(text, [](char32_t c) { return c < kFirstMark; }))
    return std::u32string(text);
  std::u32string parts, result;
  for (const char32_t character : text) add_decomposed(character, parts);
  sort_marks(parts);
  std::optional<size_t> starter;  // where a mark may be added
  int last_class = 0;             // of the mark that was left after it; 0: none
  for (const char32_t character : parts) {
    const int own_class = combining_class(character);
    const bool is_blocked = last_class != 0 && last_class >= own_class;
    if (starter && !is_blocked)
      if (const auto whole = composition_of(result[*starter], character)) {
        result[*starter] = *whole;
        continue;
      }
    if (own_class == 0) starter = result.size();
    last_class = own_class;
    result += character;
  }
  return result;
}

std::u32string lower_case(std::u32string_view text) {
  std::u32string lower;
  for (const char32_t character : text) {
    const LowerCaseRun* const run = range_of(std::span<const LowerCaseRun>(kLowerCase), character);
    if (character == 0x130)  // I with a dot: the only one that becomes two
      lower += U"i\u0307";
    else if (run != nullptr && (character - run->first) % run->stride == 0)
      lower += character + static_cast<char32_t>(run->added);
    else
      lower += character;
  }
  return lower;
}

}  // namespace dalle
