#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dalle {

/// What regular expressions call \p{L}, \p{N}, \s, and the rest. Code points that are unassigned in
/// Unicode 14 are of the rest.
enum class CharacterKind : uint8_t { kLetter, kNumber, kSpace, kOther };

CharacterKind kind_of(char32_t character);

/// @param text  valid UTF-8, see first_invalid_utf8()
std::u32string code_points(std::string_view text);

std::string utf8_of(std::u32string_view text);

/// The normal form C: a letter and its accents become one character where there is one.
/// Source: Unicode Standard Annex 15; section 3.12 of the standard for Hangul
std::u32string composed(std::u32string_view text);

/// The lower case of each character by itself: a sigma is the same at the end of a word.
std::u32string lower_case(std::u32string_view text);

}  // namespace dalle
