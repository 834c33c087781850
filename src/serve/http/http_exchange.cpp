#include "serve/http/http_exchange.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/ascii.h"
#include "core/error.h"

namespace dalle {

std::string_view HttpRequest::header(std::string_view name) const {
  const std::string wanted = lower_case(name);
  const auto found = std::ranges::find_if(
      headers, [&](const auto& field) { return lower_case(field.first) == wanted; });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::string random_id() {
  std::array<unsigned char, 16> random{};
  DALLE_CHECK(::getentropy(random.data(), random.size()) == 0);
  return fmt::format("{:02x}", fmt::join(random, ""));
}

}  // namespace dalle
