#pragma once

#include <string_view>

namespace dalle {

/// Whether a text has nothing but white space.
constexpr bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

}  // namespace dalle
