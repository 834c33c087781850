#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// Parses a `.txt` file of captions, one per line. Trims captions and ignores blank lines and a
/// byte order mark. Lines end with LF, CRLF or CR.
///
/// @throws dalle::Error if the text is not UTF-8 or contains a zero byte; the message explains how
///         to convert UTF-16
std::vector<std::string> parse_captions(std::string_view text);

/// Parses the "caption" of a `.json` file: a string, a list of strings, or none (missing, null or
/// NaN, which are also ignored in lists). Accepts the JSON of Python's json module, with NaN,
/// infinities and unpaired surrogates, which become U+FFFD.
///
/// @throws dalle::Error like parse_captions(), and if the text is not a JSON object or its caption
///         has another type
std::vector<std::string> parse_json_captions(std::string_view text);

}  // namespace dalle
