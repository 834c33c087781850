#include "serve/http/request_target.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <system_error>

#include "core/ascii.h"
#include "core/error.h"
#include "core/utf8.h"

namespace dalle {
namespace {

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const std::string_view digits = text.substr(i + 1, 2);
    uint8_t byte = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (error != std::errc() || end != text.data() + i + 3)
      throw Error("request target: found % without two hexadecimal digits after it");
    decoded += static_cast<char>(byte);
    i += 2;
  }
  if (std::ranges::any_of(decoded, is_control_character))
    throw Error("request target: found an encoded control character");
  if (first_invalid_utf8(decoded) < decoded.size())
    throw Error("request target: found bytes that are not UTF-8");
  return decoded;
}

}  // namespace

std::string parse_request_target(std::string_view target) {
  // Others must be percent-encoded. This also keeps them out of logs.
  if (std::ranges::any_of(target, [](char c) { return c <= 0x20 || c >= 0x7f || c == '#'; }))
    throw Error("request target: found a character that must be percent-encoded");
  for (const std::string_view scheme : {"http://", "https://"})
    if (lower_case(target.substr(0, scheme.size())) == scheme) {
      target.remove_prefix(std::min(target.find_first_of("/?", scheme.size()), target.size()));
      if (!target.starts_with('/')) throw Error("request target: found no path after the host");
      break;
    }
  if (target == "*") return "*";
  if (!target.starts_with('/')) throw Error("request target: expected a path that begins with /");
  const size_t question = std::min(target.find('?'), target.size());
  std::string path = percent_decoded(target.substr(0, question));
  (void)percent_decoded(target.substr(question));  // a proxy might read an invalid one differently
  return path;
}

}  // namespace dalle
