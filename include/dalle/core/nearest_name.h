#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace dalle {

/// Fewest insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The known name that a mistyped one most likely meant: the first at the smallest edit distance,
/// if that is at most a third of the name's length (and at least 2 is allowed).
///
/// @return  empty if none is near
std::string nearest_name(std::string_view name, std::span<const std::string> known);

}  // namespace dalle
