#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include <fmt/format.h>

#include "core/error.h"

namespace dalle {

/// The upper limit of a range that has none; its negative is the lower limit of a range that has
/// none.
template <class Number>
requires std::is_signed_v<Number>
inline constexpr Number kNoLimit = std::numeric_limits<Number>::has_infinity
                                       ? std::numeric_limits<Number>::infinity()
                                       : std::numeric_limits<Number>::max();

/// "from 1 to 64", "at least 0" or "at most 2.5"; empty without limits.
template <class Number>
std::string limits_text(Number min, Number max) {
  const bool has_min = min > -kNoLimit<Number>, has_max = max < kNoLimit<Number>;
  if (has_min && has_max) return fmt::format("from {} to {}", min, max);
  if (has_min) return fmt::format("at least {}", min);
  return has_max ? fmt::format("at most {}", max) : "";
}

/// The same as it follows "an integer" or "a number": " from 1 to 64", " of at least 0".
template <class Number>
std::string range_phrase(Number min, Number max) {
  const std::string limits = limits_text(min, max);
  if (limits.empty()) return "";
  return (limits.starts_with("at") ? " of " : " ") + limits;
}

/// @throws dalle::Error "NAME: found 0, expected an integer of at least 1"
template <class Number>
void check_in_range(std::string_view name, Number found, std::type_identity_t<Number> min,
                    std::type_identity_t<Number> max = kNoLimit<Number>) {
  if (!(found >= min && found <= max))  // also refuses NaN
    throw Error("{}: found {}, expected {}{}", name, found,
                std::is_integral_v<Number> ? "an integer" : "a number", range_phrase(min, max));
}

}  // namespace dalle
