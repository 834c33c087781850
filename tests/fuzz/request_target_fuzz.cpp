#include <string>
#include <string_view>

#include "core/utf8.h"
#include "fuzz/fuzz.h"
#include "serve/http/request_target.h"

namespace dalle {
namespace {

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return encoded;
}

}  // namespace

/// What comes out is text, and encoding all of it gives the same again, also in front of a query.
void fuzz(std::string_view input) {
  std::string path;
  if (!accepts([&] { path = parse_request_target(input); })) return;
  DALLE_CHECK(first_invalid_utf8(path) == path.size());
  for (const char c : path) DALLE_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  if (path == "*") return;
  DALLE_CHECK(path.starts_with('/'));
  const std::string encoded = percent_encoded(std::string_view(path).substr(1));
  DALLE_CHECK(parse_request_target("/" + encoded + "?" + encoded) == path);
}

}  // namespace dalle
