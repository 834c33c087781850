#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dalle {

/// Keyword and UTF-8 text of a PNG text chunk.
using PngText = std::pair<std::string, std::string>;

/// Adds international text chunks (iTXt) to a PNG file's bytes, right behind its header.
/// @throws dalle::Error if `png` is no PNG, or a keyword is not 1 to 79 printable ASCII characters
/// Source: Portable Network Graphics specification, third edition, section 11.3.3.4
std::string add_png_text(std::string_view png, const std::vector<PngText>& texts);

/// The uncompressed iTXt chunks of a PNG file, in their order.
/// @throws dalle::Error if `png` is no PNG or cut short
std::vector<PngText> read_png_text(std::string_view png);

}  // namespace dalle
