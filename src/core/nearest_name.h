#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace dalle {

/// The fewest insertions, deletions, replacements and transpositions of adjacent characters that
/// turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// Finds the known name that a mistyped one most likely stands for: the first one at the smallest
/// edit distance, which may be up to a third of the name's length, or 2 if that is more.
///
/// @return  empty if no name is close enough
std::string nearest_name(std::string_view name, std::span<const std::string> known);

}  // namespace dalle
