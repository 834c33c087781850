#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dalle {

/// The keyword and the UTF-8 text of a PNG text chunk.
using PngText = std::pair<std::string, std::string>;

/// Inserts international text chunks (iTXt) after the header of a PNG file.
/// @throws dalle::Error if `png` is not a PNG file, or a keyword is not 1 to 79 printable ASCII
///         characters
/// Source: Portable Network Graphics specification, third edition, section 11.3.3.4
std::string add_png_text(std::string_view png, const std::vector<PngText>& texts);

}  // namespace dalle
