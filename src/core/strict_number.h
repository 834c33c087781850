#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dalle {

/// A whole number as people write it: `42`, `-1`, or with an exponent where the value is whole,
/// `1e5`, `2.5e3`. YAML's other readings of digits (octal 010, hexadecimal 0x10, 1_000) are not
/// numbers here, because they are rarely what was meant.
///
/// @return  nothing if the text is anything else or the value does not fit
std::optional<int64_t> parse_integer(std::string_view text);

/// A finite decimal number: `1`, `0.5`, `.5`, `4.5e-4`.
///
/// @return  nothing if the text is anything else or the value is beyond a double's range
std::optional<double> parse_number(std::string_view text);

/// Why text that looks like a number is not one: "without leading zeros", "without underscores",
/// "that is finite"; empty for other text.
std::string_view number_advice(std::string_view text);

/// Same, where a whole number is expected; also "that fits in 64 bits".
std::string_view integer_advice(std::string_view text);

}  // namespace dalle
