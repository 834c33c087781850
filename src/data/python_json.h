#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// The text with what Python's json module writes and JSON does not know replaced: NaN, Infinity
/// and -Infinity by null, halves of surrogate pairs ("\ud83d" alone) and bytes that are not UTF-8
/// by U+FFFD. Valid JSON stays as it is.
std::string standard_json(std::string_view text);

}  // namespace dalle
