#include "serve/http/multipart.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/error.h"
#include "core/utf8.h"

namespace dalle {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr size_t kMostBoundaryBytes = 70;  // RFC 2046, section 5.1.1

/// The value of a header: `form-data; name="image"`.
struct HeaderValue {
  std::string value;                                            ///< in lower case
  std::vector<std::pair<std::string, std::string>> parameters;  ///< names in lower case

  const std::string* parameter(std::string_view name) const {
    const auto found =
        std::ranges::find(parameters, name, &decltype(parameters)::value_type::first);
    return found == parameters.end() ? nullptr : &found->second;
  }
};

/// Removes a quoted string from the front of `text`. A backslash escapes only quotes and itself,
/// because some browsers send paths of Windows.
std::string take_quoted(std::string_view& text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    const bool is_escaped =
        text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    if (is_escaped) ++i;
    if (text[i] == '"' && !is_escaped) {
      text.remove_prefix(i + 1);
      return value;
    }
    value += text[i];
  }
  throw Error("found a quoted value without its closing quote");
}

HeaderValue parse_header_value(std::string_view text) {
  HeaderValue header;
  size_t semicolon = std::min(text.find(';'), text.size());
  header.value = lower_case(trimmed(text.substr(0, semicolon)));
  text = trimmed(text.substr(semicolon));
  while (!text.empty()) {
    if (text.front() != ';') throw Error("found text after a parameter, expected a semicolon");
    text = trimmed(text.substr(1));
    if (text.empty()) break;  // a final semicolon
    const size_t equals = text.find_first_of("=;");
    if (equals == text.npos || text[equals] == ';')
      throw Error("found a parameter without a value");
    const std::string name = lower_case(trimmed(text.substr(0, equals)));
    text = trimmed(text.substr(equals + 1));
    std::string value;
    if (text.starts_with('"')) {
      value = take_quoted(text);
    } else {
      semicolon = std::min(text.find(';'), text.size());
      value = trimmed(text.substr(0, semicolon));
      text.remove_prefix(semicolon);
    }
    text = trimmed(text);
    if (header.parameter(name) != nullptr) throw Error("found a parameter twice");
    header.parameters.emplace_back(name, std::move(value));
  }
  return header;
}

std::string boundary_of(std::string_view content_type) {
  const HeaderValue header =
      prefix_errors("content-type", [&] { return parse_header_value(content_type); });
  if (header.value != "multipart/form-data")
    throw Error("content-type: expected multipart/form-data");
  const std::string* const boundary = header.parameter("boundary");
  if (boundary == nullptr) throw Error("content-type: found no boundary");
  if (boundary->empty() || boundary->size() > kMostBoundaryBytes)
    throw Error("content-type: found a boundary of {} bytes, expected 1 to {}", boundary->size(),
                kMostBoundaryBytes);
  if (boundary->find_first_of(kLineEnd) != boundary->npos)
    throw Error("content-type: found a line break in the boundary");
  return *boundary;
}

/// A line that separates parts.
struct Delimiter {
  size_t begin = 0;  ///< of the line break before it, which belongs to it
  size_t end = 0;    ///< after its line break
  bool is_last = false;
};

/// The first delimiter at or after `from`.
std::optional<Delimiter> find_delimiter(std::string_view body, const std::string& boundary,
                                        size_t from) {
  const std::string dashes = "--" + boundary;
  for (size_t at = from; (at = body.find(dashes, at)) != body.npos; ++at) {
    const bool starts_line = at == 0 || (at >= 2 && body.substr(at - 2, 2) == kLineEnd);
    if (!starts_line) continue;
    const size_t begin = std::max(at == 0 ? 0 : at - 2, from);
    std::string_view rest = body.substr(at + dashes.size());
    if (rest.starts_with("--")) return Delimiter{.begin = begin, .end = at, .is_last = true};
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    if (rest.starts_with(kLineEnd))
      return Delimiter{
          .begin = begin, .end = body.size() - rest.size() + kLineEnd.size(), .is_last = false};
  }
  return std::nullopt;
}

void check_text(std::string_view what, const std::string& text) {
  if (first_invalid_utf8(text) < text.size()) throw Error("{}: expected UTF-8", what);
  if (std::ranges::any_of(text, is_control_character))
    throw Error("{}: found a control character", what);
}

/// Removes one header line from the front of `text`, which ends the headers if it is empty.
std::string_view take_header_line(std::string_view& text, const MultipartLimits& limits) {
  const std::string_view headers = text.substr(0, limits.header_bytes);
  const size_t end = headers.find(kLineEnd);
  if (end == headers.npos && headers.size() < text.size())
    throw Error("the headers are too long, expected at most {} bytes", limits.header_bytes);
  if (end == headers.npos) throw Error("the empty line after the headers is missing");
  const std::string_view line = text.substr(0, end);
  if (line.find_first_of("\r\n") != line.npos || line.find('\0') != line.npos)
    throw Error("found a control character in a header");
  text.remove_prefix(end + kLineEnd.size());
  return line;
}

/// @param text  the headers, the empty line after them, and the content
FormPart parse_part(std::string_view text, MultipartLimits limits) {
  FormPart part;
  bool has_name = false;
  for (;;) {
    const std::string_view line = take_header_line(text, limits);
    if (line.empty()) break;
    limits.header_bytes -= line.size() + kLineEnd.size();
    const size_t colon = line.find(':');
    if (colon == line.npos) throw Error("found a header without a colon");
    const std::string name = lower_case(trimmed(line.substr(0, colon)));
    if (name != "content-type" && name != "content-disposition" &&
        name != "content-transfer-encoding")
      continue;
    const HeaderValue header = parse_header_value(line.substr(colon + 1));
    if (name == "content-transfer-encoding" && header.value != "7bit" && header.value != "8bit" &&
        header.value != "binary")
      throw Error("content-transfer-encoding: expected binary");
    if (name != "content-disposition") continue;
    if (has_name) throw Error("found content-disposition twice");
    if (header.value != "form-data") throw Error("content-disposition: expected form-data");
    if (const std::string* filename = header.parameter("filename"))
      check_text("filename", *filename);
    if (const std::string* field = header.parameter("name")) {
      part.name = *field;
      has_name = true;
    }
  }
  if (!has_name) throw Error("found no name, expected content-disposition: form-data; name=...");
  check_text("name", part.name);
  part.content = text;
  return part;
}

}  // namespace

std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body,
                                      const MultipartLimits& limits) {
  const std::string boundary = boundary_of(content_type);
  std::optional<Delimiter> delimiter = find_delimiter(body, boundary, 0);
  if (!delimiter) throw Error("multipart: found no line with the boundary of the content type");
  std::vector<FormPart> parts;
  while (!delimiter->is_last) {
    const size_t number = parts.size() + 1;
    if (number > limits.parts) throw Error("multipart: found more than {} parts", limits.parts);
    const size_t begin = delimiter->end;
    delimiter = find_delimiter(body, boundary, begin);
    if (!delimiter) throw Error("multipart: part {} is truncated", number);
    const std::string_view part = body.substr(begin, delimiter->begin - begin);
    parts.push_back(prefix_errors(fmt::format("multipart: part {}", number),
                                  [&] { return parse_part(part, limits); }));
  }
  return parts;
}

}  // namespace dalle
