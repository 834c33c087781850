#include "serve/http/http_exchange.h"

#include <algorithm>

#include "core/ascii.h"

namespace dalle {

std::string_view HttpRequest::header(std::string_view name) const {
  const std::string wanted = lower_case(name);
  const auto found = std::ranges::find_if(
      headers, [&](const auto& field) { return lower_case(field.first) == wanted; });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace dalle
