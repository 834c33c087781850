#pragma once

#include <string>
#include <string_view>

namespace dalle {

inline constexpr std::string_view kAsciiWhitespace = " \t\r\n\f\v";

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

}  // namespace dalle
