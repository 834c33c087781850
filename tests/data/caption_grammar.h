#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/seeds.h"

namespace dalle {

/// Appends a Unicode code point as UTF-8.
inline void append_utf8(std::string& text, uint32_t number) {
  const auto put = [&text](uint32_t byte) { text += static_cast<char>(byte); };
  const auto put_tail = [&](int bytes) {
    for (int k = bytes - 1; k >= 0; --k) put(0x80 | ((number >> (6 * k)) & 0x3f));
  };
  if (number < 0x80) {
    put(number);
  } else if (number < 0x800) {
    put(0xc0 | number >> 6);
    put_tail(1);
  } else if (number < 0x10000) {
    put(0xe0 | number >> 12);
    put_tail(2);
  } else {
    put(0xf0 | number >> 18);
    put_tail(3);
  }
}

/// Realistic captions with capitals, plurals, numbers, punctuation, typos and accents, and
/// sometimes another script or an emoji.
inline std::string random_caption(SeedStream& random) {
  using Words = std::array<std::string_view, 12>;
  static constexpr Words kAdjectives = {"red",    "Blue",        "tiny",    "enormous",
                                        "shiny",  "café",        "striped", "OLD",
                                        "fluffy", "transparent", "naïve",   "green"};
  static constexpr Words kNouns = {"circle", "dog",        "avocado", "armchair",
                                   "teapot", "снег",       "radish",  "tutu",
                                   "猫",     "lighthouse", "Öl",      "storefront"};
  static constexpr Words kPlaces = {"on a table", "in the snow", "beside", "under",
                                    "walking",    "made of",     "above",  "in front of",
                                    "wearing",    "left of",     "with",   "inside"};
  static constexpr Words kEndings = {"",  ".",   "!",  " 😀",   ", 4k", " #art",
                                     "…", " ﬁn", "  ", " 50%", "?",    " (2021)"};
  const auto pick = [&random](const Words& words) { return std::string(words[random.below(12)]); };
  std::string text = random.below(2) == 0 ? "a " : "The ";
  const uint64_t parts = 1 + random.below(3);
  for (uint64_t part = 0; part < parts; ++part) {
    if (part > 0) text += " " + pick(kPlaces) + " ";
    if (random.below(3) > 0) text += pick(kAdjectives) + " ";
    if (random.below(8) == 0) text += std::to_string(random.below(10'000)) + " ";
    text += pick(kNouns);
    if (random.below(4) == 0) text += "s";
  }
  text += pick(kEndings);
  if (random.below(10) == 0) {  // a typo
    char& letter = text[random.below(text.size())];
    if (letter > 0 && letter != ' ') letter = static_cast<char>('a' + random.below(26));
  }
  return text;
}

/// Characters from all of Unicode, including whitespace and control characters.
inline std::string random_unicode(SeedStream& random) {
  constexpr std::array<uint32_t, 6> kBounds = {0x80, 0x250, 0x3000, 0xd800, 0x20000, 0x110000};
  std::string text;
  const uint64_t length = random.below(40);
  for (uint64_t i = 0; i < length; ++i) {
    auto number = static_cast<uint32_t>(random.below(kBounds[random.below(kBounds.size())]));
    if (number >= 0xd800 && number < 0xe000) number -= 0x800;  // surrogates are not characters
    append_utf8(text, number);
    if (random.below(6) == 0) text += random.below(2) == 0 ? " " : "\xe2\x96\x81";
  }
  return text;
}

}  // namespace dalle
