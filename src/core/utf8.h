#pragma once

#include <cstddef>
#include <string_view>

namespace dalle {

/// The offset of the first byte that does not begin a valid UTF-8 character; the size of the text
/// if all of it is valid. Overlong forms, surrogates and code points above U+10FFFF are invalid.
/// Source: RFC 3629, section 4
size_t first_invalid_utf8(std::string_view text);

/// The length in bytes of the UTF-8 character that begins with `lead`; 1 for an invalid lead byte.
constexpr size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/// The longest prefix of `text` (valid UTF-8) of at most `size` bytes that does not split a
/// character.
std::string_view utf8_prefix(std::string_view text, size_t size);

}  // namespace dalle
