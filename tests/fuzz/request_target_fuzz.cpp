#include <algorithm>
#include <string>

#include "core/utf8.h"
#include "fuzz/fuzz.h"
#include "serve/http/request_target.h"

namespace dalle {
namespace {

void check_decoded(const std::string& text) {
  DALLE_CHECK(first_invalid_utf8(text) == text.size());
  for (const char c : text) DALLE_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return encoded;
}

}  // namespace

/// What comes out is text, and encoding all of it gives the same again.
void fuzz(std::string_view input) {
  RequestTarget target;
  if (!accepts([&] { target = parse_request_target(input); })) return;
  check_decoded(target.path);
  if (target.path == "*") return;
  DALLE_CHECK(target.path.starts_with('/'));
  std::string encoded = "/" + percent_encoded(std::string_view(target.path).substr(1)) + "?";
  for (const auto& [name, value] : target.query) {
    check_decoded(name);
    check_decoded(value);
    encoded += percent_encoded(name) + "=" + percent_encoded(value) + "&";
  }
  const RequestTarget again = parse_request_target(encoded);
  DALLE_CHECK(again.path == target.path && again.query == target.query);
}

}  // namespace dalle
