#include "core/utf8.h"

#include <cstdint>

namespace dalle {

size_t first_invalid_utf8(std::string_view text) {
  const auto byte = [&](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
  };
  size_t i = 0;
  while (i < text.size()) {
    const uint32_t lead = byte(i);
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4) return i;
    const size_t length = utf8_length(text[i]);
    for (size_t k = 1; k < length; ++k)
      if ((byte(i + k) & 0xc0) != 0x80) return i;
    const uint32_t second = byte(i + 1);
    const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    const bool surrogate = lead == 0xed && second > 0x9f;
    const bool too_large = lead == 0xf4 && second > 0x8f;
    if (overlong || surrogate || too_large) return i;
    i += length;
  }
  return i;
}

std::string_view utf8_prefix(std::string_view text, size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace dalle
