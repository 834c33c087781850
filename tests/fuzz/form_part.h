#pragma once

#include <string>
#include <string_view>

namespace dalle {

/// A part of a form as a well-behaved client writes it.
inline std::string form_part(std::string_view name, std::string_view content,
                             const std::string& boundary) {
  std::string part = "--" + boundary + "\r\nContent-Disposition: form-data; name=\"";
  for (const char c : name) part += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
  return part.append("\"\r\n\r\n").append(content).append("\r\n");
}

/// What follows the last part.
inline std::string form_end(const std::string& boundary) {
  return "--" + boundary + "--\r\n";
}

}  // namespace dalle
