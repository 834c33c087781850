#include <algorithm>
#include <string>
#include <vector>

#include "core/utf8.h"
#include "fuzz/form_part.h"
#include "fuzz/fuzz.h"
#include "serve/http/multipart.h"

namespace dalle {
namespace {

constexpr MultipartLimits kLimits{.parts = 8, .header_bytes = 512};

}  // namespace

/// The content type, a zero byte, and the body. Contents are views of the body, in order; and a
/// form of these parts has these parts.
void fuzz(std::string_view input) {
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string body(input.substr(std::min(zero + 1, input.size())));
  std::vector<FormPart> parts;
  accepts([&] { parts = parse_multipart(input.substr(0, zero), body, kLimits); });
  DALLE_CHECK(parts.size() <= kLimits.parts);
  const char* end = body.data();
  for (const FormPart& part : parts) {
    DALLE_CHECK(part.content.data() >= end);
    end = part.content.data() + part.content.size();
    DALLE_CHECK(first_invalid_utf8(part.name) == part.name.size());
  }
  DALLE_CHECK(end <= body.data() + body.size());

  std::string boundary = "r";
  while (body.find("--" + boundary) != body.npos) boundary += 'r';
  if (boundary.size() > 70) return;
  std::string form;
  for (const FormPart& part : parts) form += form_part(part.name, part.content, boundary);
  form += form_end(boundary);
  const std::vector<FormPart> again =
      parse_multipart("multipart/form-data; boundary=" + boundary, form, {.header_bytes = 4096});
  DALLE_CHECK(std::ranges::equal(parts, again, [](const FormPart& a, const FormPart& b) {
    return a.name == b.name && a.content == b.content;
  }));
}

}  // namespace dalle
