#pragma once

#include <cstddef>
#include <string_view>

namespace dalle {

/// Offset of the first byte that begins no UTF-8 character; the text's size where it is all UTF-8.
/// Overlong forms, surrogates and numbers above U+10FFFF are none.
/// Source: RFC 3629, section 4
size_t first_invalid_utf8(std::string_view text);

/// Bytes of the UTF-8 character that begins with `lead`; 1 for a byte that begins none.
constexpr size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/// The longest beginning of valid UTF-8 `text` that has at most `size` bytes and cuts no character.
std::string_view utf8_prefix(std::string_view text, size_t size);

}  // namespace dalle
