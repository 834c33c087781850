#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dalle {

/// What regular expressions call \p{L}, \p{N}, \s, and the rest, in ICU's version of Unicode.
enum class CharacterKind : uint8_t { kLetter, kNumber, kSpace, kOther };

CharacterKind kind_of(char32_t character);

/// The code points of `text` (valid UTF-8, see first_invalid_utf8()) in normal form C, where a
/// letter and its accents are one character if there is one, and then in lower case, each character
/// by itself: a sigma is the same at the end of a word.
std::u32string composed_lower_case(std::string_view text);

std::string utf8_of(std::u32string_view text);

}  // namespace dalle
