#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dalle {

/// One field of a form.
struct FormPart {
  std::string name;          ///< UTF-8 without control characters
  std::string_view content;  ///< a view of the body
};

struct MultipartLimits {
  size_t parts = 64;
  size_t header_bytes = 4096;  ///< of each part
};

/// Splits a body of the type multipart/form-data. Names may repeat.
/// Source: RFC 7578, and RFC 2046, section 5.1
///
/// @param content_type  the value of the request's header, with the boundary
/// @param body          must outlive the parts
/// @throws dalle::Error that says what is wrong, and in which part, without quoting the request
std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body,
                                      const MultipartLimits& limits = {});

}  // namespace dalle
