#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dalle {

/// Encodes bytes as base64, with padding and without line breaks (RFC 4648, section 4).
std::string base64(std::string_view bytes);

/// The bytes of base64 text with padding, in which white space is ignored; nothing if it is
/// anything else.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace dalle
