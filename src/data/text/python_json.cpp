#include "data/text/python_json.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "core/utf8.h"

namespace dalle {
namespace {

constexpr size_t kEscapeBytes = 6;  // \uXXXX
constexpr std::string_view kReplacement = "\\ufffd";
constexpr std::string_view kNotNumbers[] = {"NaN", "Infinity", "-Infinity"};

/// The code unit of an escape \uXXXX at the beginning of `text`; 0 if there is none.
uint32_t escaped_unit(std::string_view text) {
  if (text.size() < kEscapeBytes || !text.starts_with("\\u")) return 0;
  uint32_t unit = 0;
  const char* end = text.data() + kEscapeBytes;
  return std::from_chars(text.data() + 2, end, unit, 16).ptr == end ? unit : 0;
}

bool is_high_surrogate(uint32_t unit) {
  return 0xd800 <= unit && unit <= 0xdbff;
}

bool is_low_surrogate(uint32_t unit) {
  return 0xdc00 <= unit && unit <= 0xdfff;
}

/// Moves one character or escape of a string from `text` to `out`.
void convert_character(std::string_view& text, std::string& out) {
  const uint32_t unit = escaped_unit(text);
  size_t size = 1;
  if (is_high_surrogate(unit) && is_low_surrogate(escaped_unit(text.substr(kEscapeBytes)))) {
    size = 2 * kEscapeBytes;
  } else if (is_high_surrogate(unit) || is_low_surrogate(unit)) {
    out += kReplacement;
    text.remove_prefix(kEscapeBytes);
    return;
  } else if (text.front() == '\\') {
    size = std::min<size_t>(2, text.size());
  } else {
    size = std::min(utf8_length(text.front()), text.size());
    if (first_invalid_utf8(text.substr(0, size)) < size) {
      out += kReplacement;
      text.remove_prefix(1);
      return;
    }
  }
  out += text.substr(0, size);
  text.remove_prefix(size);
}

}  // namespace

std::string standard_json(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  while (!text.empty()) {
    if (text.front() == '"') {
      in_string = !in_string;
    } else if (in_string) {
      convert_character(text, out);
      continue;
    } else if (const std::string_view* word = std::ranges::find_if(
                   kNotNumbers, [&](std::string_view name) { return text.starts_with(name); });
               word != std::end(kNotNumbers)) {
      out += "null";
      text.remove_prefix(word->size());
      continue;
    }
    out += text.front();
    text.remove_prefix(1);
  }
  return out;
}

}  // namespace dalle
