#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// Decodes the path of `/path?query`, also with `http://host` in front, as proxies get it. The
/// query is only checked.
/// Source: RFC 9112, section 3.2
/// @return  UTF-8 without control characters, which begins with /, or is * (of OPTIONS)
/// @throws dalle::Error if the target has another form, or if its path or query has an incomplete
///         percent sequence, a control character or bytes that are not UTF-8
std::string parse_request_target(std::string_view target);

}  // namespace dalle
