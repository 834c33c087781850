#pragma once

#include <map>
#include <string>
#include <string_view>

namespace dalle {

/// What a request line asks for. All texts are UTF-8 without control characters.
struct RequestTarget {
  std::string path;                          ///< begins with /, or is * (of OPTIONS)
  std::map<std::string, std::string> query;  ///< of repeated names, the first
};

/// Decodes `/path?name=value`, also with `http://host` in front, as proxies get it.
/// Source: RFC 9112, section 3.2, and for the query the URL standard,
/// application/x-www-form-urlencoded
/// @throws dalle::Error if it has another form, an incomplete percent sequence, a control character
///         or bytes that are not UTF-8
RequestTarget parse_request_target(std::string_view target);

}  // namespace dalle
