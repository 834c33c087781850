#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

inline constexpr std::string_view kAsciiWhitespace = " \t\r\n\f\v";

constexpr bool is_control_character(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// Returns `text` with its ASCII letters in lower case, whatever the locale; other bytes are
/// unchanged.
inline std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return lower;
}

/// Returns `text` without its leading and trailing ASCII whitespace.
constexpr std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kAsciiWhitespace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kAsciiWhitespace) - first + 1);
}

constexpr bool is_blank(std::string_view text) {
  return trimmed(text).empty();
}

/// Returns the parts of `text` between ASCII whitespace.
inline std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!(text = trimmed(text)).empty()) {
    const size_t end = std::min(text.find_first_of(kAsciiWhitespace), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

}  // namespace dalle
