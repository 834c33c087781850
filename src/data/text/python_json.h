#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// Converts the output of Python's json module to standard JSON: replaces NaN, Infinity and
/// -Infinity by null, and unpaired surrogates (such as "\ud83d") and invalid UTF-8 by U+FFFD. Valid
/// JSON is unchanged.
std::string standard_json(std::string_view text);

}  // namespace dalle
