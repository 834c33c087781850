#include "data/text/captions.h"

#include <cstdint>

#include "core/ascii.h"
#include "core/error.h"
#include "core/utf8.h"
#include "data/text/python_json.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

/// Also rejects zero bytes, which are valid UTF-8 but occur in files of UTF-16.
void require_utf8(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw Error("captions: found UTF-16, expected UTF-8; convert it with iconv -f utf-16 -t utf-8");
  if (const size_t place = text.find('\0'); place != std::string_view::npos)
    throw Error(
        "captions: byte {} is zero, expected UTF-8; if this is UTF-16, convert it with iconv -f "
        "utf-16{} -t utf-8",
        place, place % 2 == 1 ? "le" : "be");
  if (const size_t place = first_invalid_utf8(text); place < text.size())
    throw Error("captions: byte {} ({:#04x}) is not UTF-8", place,
                static_cast<uint8_t>(text[place]));
}

std::string_view without_byte_order_mark(std::string_view text) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  return text.starts_with(kMark) ? text.substr(kMark.size()) : text;
}

/// Appends `caption` without surrounding whitespace, unless it is blank.
void add_trimmed(std::string_view caption, std::vector<std::string>& captions) {
  if (!is_blank(caption)) captions.emplace_back(trimmed(caption));
}

}  // namespace

std::vector<std::string> parse_captions(std::string_view text) {
  require_utf8(text);
  text = without_byte_order_mark(text);
  std::vector<std::string> captions;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    add_trimmed(text.substr(0, end), captions);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return captions;
}

std::vector<std::string> parse_json_captions(std::string_view text) {
  if (text.find('\0') != std::string_view::npos)  // nlohmann's parser takes it for the text's end
    require_utf8(text);
  text = without_byte_order_mark(text);
  constexpr bool kThrows = false;
  nlohmann::json record = nlohmann::json::parse(text, nullptr, kThrows);
  if (record.is_discarded()) record = nlohmann::json::parse(standard_json(text), nullptr, kThrows);
  if (!record.is_object())
    throw Error(
        "captions: {}, expected a JSON object",
        record.is_discarded() ? "not a JSON file" : "a JSON " + std::string(record.type_name()));
  std::vector<std::string> captions;
  const auto add = [&](const nlohmann::json& value) {
    if (value.is_null()) return;
    if (!value.is_string())
      throw Error("captions: \"caption\" has type {}, expected a string or a list of strings",
                  value.type_name());
    const auto& caption = value.get_ref<const std::string&>();
    // U+FFFD may come from standard_json(), which inserts it for invalid UTF-8.
    constexpr std::string_view kReplaced = "\xef\xbf\xbd";
    if (caption.find(kReplaced) != std::string::npos) require_utf8(text);
    if (caption.find('\0') != std::string::npos)
      throw Error("captions: \"caption\" contains a zero byte");
    add_trimmed(caption, captions);
  };
  const auto caption = record.find("caption");
  if (caption == record.end()) return captions;
  if (caption->is_array())
    for (const nlohmann::json& alternative : *caption) add(alternative);
  else
    add(*caption);
  return captions;
}

}  // namespace dalle
