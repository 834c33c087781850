#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// The captions in a `.txt` file: one a line, trimmed, blank lines left out. LF, CRLF and CR end a
/// line; a byte order mark is dropped.
///
/// @throws dalle::Error if the text is not UTF-8 or has a zero byte; of UTF-16 it says so
std::vector<std::string> parse_captions(std::string_view text);

/// The "caption" of a `.json` file: a string, a list of strings, or none (missing, null or NaN;
/// these are left out of lists too). The file may be JSON as Python writes it: with NaN,
/// infinities and halves of surrogate pairs, which become U+FFFD.
///
/// @throws dalle::Error as above, and if the text is not a JSON object or its caption is something
/// else
std::vector<std::string> parse_json_captions(std::string_view text);

}  // namespace dalle
