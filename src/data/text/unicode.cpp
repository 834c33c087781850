#include "data/text/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "core/error.h"

namespace dalle {

CharacterKind kind_of(char32_t character) {
  const auto code = static_cast<UChar32>(character);
  if (u_isUWhiteSpace(code)) return CharacterKind::kSpace;
  const uint32_t category = U_MASK(u_charType(code));
  if ((category & U_GC_L_MASK) != 0) return CharacterKind::kLetter;
  return (category & U_GC_N_MASK) != 0 ? CharacterKind::kNumber : CharacterKind::kOther;
}

std::u32string composed_lower_case(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const auto utf16 = icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())});
  const icu::Normalizer2* const normal_form = icu::Normalizer2::getNFCInstance(status);
  DALLE_CHECK(U_SUCCESS(status));  // ICU has the data that it needs
  const icu::UnicodeString composed = normal_form->normalize(utf16, status);
  DALLE_CHECK(U_SUCCESS(status));
  std::u32string lower;
  for (int32_t i = 0; i < composed.length(); i = composed.moveIndex32(i, 1)) {
    const UChar32 character = composed.char32At(i);
    lower += static_cast<char32_t>(u_tolower(character));
    if (character == 0x130) lower += U'\u0307';  // I with a dot: the only one that becomes two
  }
  return lower;
}

std::string utf8_of(std::u32string_view text) {
  std::string bytes;
  for (const char32_t point : text)
    icu::UnicodeString(static_cast<UChar32>(point)).toUTF8String(bytes);
  return bytes;
}

}  // namespace dalle
