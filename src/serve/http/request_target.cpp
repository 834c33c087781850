#include "serve/http/request_target.h"

#include <algorithm>

#include "core/ascii.h"
#include "core/error.h"
#include "core/utf8.h"

namespace dalle {
namespace {

constexpr bool is_control_character(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// The value of a hexadecimal digit; -1 for other characters.
constexpr int hex_digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 1 < text.size() ? hex_digit_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit_value(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      throw Error("request target: found % without two hexadecimal digits after it");
    decoded += static_cast<char>(high << 4 | low);
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
