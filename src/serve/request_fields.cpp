#include "serve/request_fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/base64.h"
#include "core/error.h"
#include "core/number_range.h"
#include "core/strict_number.h"
#include "core/utf8.h"
#include "serve/api_error.h"
#include "serve/http/multipart.h"

namespace dalle {
namespace {

[[noreturn]] void refuse_field(std::string_view name, const std::string& found,
                               const std::string& expected) {
  throw wrong_field(name, "found {}, expected {}", found, expected);
}

/// A value as messages show it: short, whatever was sent.
std::string shown(const nlohmann::json& value) {
  constexpr size_t kLongestShown = 60;
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() <= kLongestShown) return text;
  return std::string(utf8_prefix(text, kLongestShown)) + "...";
}

template <class Number>
bool is_in_range(Number number, const RequestField& field) {
  return static_cast<double>(number) >= field.min && static_cast<double>(number) <= field.max;
}

/// JavaScript has no whole numbers, so 2.0 is one.
std::optional<int64_t> integer_in(const nlohmann::json& value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (!(std::abs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

/// The bytes of an image in JSON: base64, or a URL "data:image/png;base64,...".
std::string file_in(std::string_view name, const nlohmann::json& value) {
  if (!value.is_string()) refuse_field(name, shown(value), "a file in base64");
  std::string_view text = value.get_ref<const std::string&>();
  constexpr std::string_view kMark = ";base64,";
  const size_t mark = text.starts_with("data:") ? text.find(kMark) : text.npos;
  if (mark != text.npos) text.remove_prefix(mark + kMark.size());
  std::optional<std::string> bytes = decode_base64(text);
  if (!bytes) refuse_field(name, "text that is not base64", "a file in base64");
  return std::move(*bytes);
}

/// Forms send an empty file if no file was selected.
std::optional<std::string> given(std::string file) {
  return file.empty() ? std::nullopt : std::optional(std::move(file));
}

/// Parses JSON with bounds on its depth and its number of values.
/// @throws dalle::Error if it is invalid or exceeds them
nlohmann::json parse_bounded_json(std::string_view text) {
  constexpr int kDeepest = 32;
  constexpr size_t kMostValues = 100'000;
  size_t values = 0;
  const auto bounded = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest) throw Error("JSON: nested more than {} levels deep", kDeepest);
    if (++values > kMostValues) throw Error("JSON: more than {} values", kMostValues);
    return true;
  };
  if (text.find('\0') != text.npos) throw Error("JSON: found a zero byte");  // would end the text
  try {
    return nlohmann::json::parse(text, bounded);
  } catch (const nlohmann::json::exception& error) {
    // Without the prefix "[json.exception.parse_error.101] ", and what was sent.
    constexpr size_t kLongestReason = 200;
    std::string_view reason = error.what();
    reason.remove_prefix(reason.find("] ") + 2);
    reason = reason.substr(0, reason.find("; last read:"));
    throw Error("not valid JSON: {}", utf8_prefix(reason, kLongestReason));
  }
}

}  // namespace

RequestFields::RequestFields(const HttpRequest& request, std::span<const RequestField> known)
    : known_(known) {
  const std::string_view type = request.header("content-type");
  const std::string kind = lower_case(trimmed(type.substr(0, type.find(';'))));
  const bool is_form = kind == "multipart/form-data";
  if (!is_form && !kind.empty() && kind != "application/json")
    throw ApiError(415,
                   "content-type: unsupported; expected application/json or multipart/form-data");
  is_form ? read_multipart(type, request.body) : read_json(request.body);
}

void RequestFields::read_json(std::string_view body) {
  values_ = parse_bounded_json(body);
  if (!values_.is_object()) throw Error("found {}, expected a JSON object", shown(values_));
}

void RequestFields::read_multipart(std::string_view content_type, std::string_view body) {
  is_multipart_ = true;
  for (const FormPart& part : parse_multipart(content_type, body)) {
    std::string_view name = part.name;
    if (name.ends_with("[]")) name.remove_suffix(2);  // as clients name the parts of a list
    const auto field = std::ranges::find(known_, name, &RequestField::name);
    if (field == known_.end()) continue;
    if (field->kind == FieldKind::kFile || field->kind == FieldKind::kFiles) {
      files_[std::string(name)].emplace_back(part.content);
      continue;
    }
    if (first_invalid_utf8(part.content) < part.content.size())
      refuse_field(name, "bytes that are not UTF-8", "text");
    if (values_.contains(name)) refuse_field(name, "the field twice", "it once");
    values_[std::string(name)] = std::string(part.content);
  }
}

std::pair<const RequestField&, const nlohmann::json&> RequestFields::look_up(std::string_view name,
                                                                             FieldKind kind) const {
  static const nlohmann::json none;
  const auto field = std::ranges::find(known_, name, &RequestField::name);
  DALLE_CHECK(field != known_.end() && field->kind == kind);
  const auto found = values_.find(name);
  return {*field, found == values_.end() ? none : *found};
}

std::optional<std::string> RequestFields::text(std::string_view name) const {
  const auto [field, found] = look_up(name, FieldKind::kText);
  if (found.is_null()) return std::nullopt;
  if (!found.is_string()) refuse_field(name, shown(found), "text");
  const auto& words = found.get_ref<const std::string&>();
  if (!is_in_range(words.size(), field))
    refuse_field(name, fmt::format("{} bytes", words.size()), fmt::format("at most {}", field.max));
  if (words.find('\0') != words.npos) refuse_field(name, "a zero byte", "text");
  return words;
}

std::optional<int64_t> RequestFields::integer(std::string_view name) const {
  const auto [field, found] = look_up(name, FieldKind::kInteger);
  if (found.is_null()) return std::nullopt;
  const std::optional<int64_t> number =
      is_multipart_ ? parse_integer(found.get_ref<const std::string&>()) : integer_in(found);
  if (!number || !is_in_range(*number, field))
    refuse_field(name, shown(found), "an integer" + range_phrase(field.min, field.max));
  return number;
}

std::optional<double> RequestFields::number(std::string_view name) const {
  const auto [field, found] = look_up(name, FieldKind::kNumber);
  if (found.is_null()) return std::nullopt;
  std::optional<double> number;
  if (is_multipart_) number = parse_number(found.get_ref<const std::string&>());
  if (!is_multipart_ && found.is_number()) number = found.get<double>();
  if (!number || !is_in_range(*number, field))
    refuse_field(name, shown(found), "a number" + range_phrase(field.min, field.max));
  return number;
}

std::optional<bool> RequestFields::flag(std::string_view name) const {
  const nlohmann::json& found = look_up(name, FieldKind::kFlag).second;
  if (found.is_null()) return std::nullopt;
  if (found.is_boolean()) return found.get<bool>();
  if (is_multipart_ && (found == "true" || found == "false")) return found == "true";
  refuse_field(name, shown(found), "true or false");
}

std::optional<std::string> RequestFields::choice(std::string_view name) const {
  const auto [field, found] = look_up(name, FieldKind::kChoice);
  if (found.is_null()) return std::nullopt;
  if (found.is_string())
    for (const std::string& word : split_words(field.choices))
      if (found == word) return word;
  refuse_field(name, shown(found), fmt::format("one of: {}", field.choices));
}

std::optional<PixelRectangle> RequestFields::rectangle(std::string_view name) const {
  const nlohmann::json& found = look_up(name, FieldKind::kRectangle).second;
  if (found.is_null()) return std::nullopt;
  if (found.is_string()) {
    if (const auto area = parse_rectangle(found.get_ref<const std::string&>())) return area;
  } else if (found.is_array() && found.size() == 4) {
    const auto x = integer_in(found[0]), y = integer_in(found[1]);
    const auto width = integer_in(found[2]), height = integer_in(found[3]);
    if (x && y && width && height) return PixelRectangle{*x, *y, *width, *height};
  }
  refuse_field(name, shown(found), "x,y,width,height as integers");
}

std::optional<std::string> RequestFields::file(std::string_view name) const {
  const nlohmann::json& found = look_up(name, FieldKind::kFile).second;
  if (const auto sent = files_.find(name); sent != files_.end()) {
    if (sent->second.size() > 1)
      refuse_field(name, fmt::format("{} files", sent->second.size()), "one");
    return given(sent->second.front());
  }
  if (found.is_null()) return std::nullopt;
  return given(file_in(name, found));
}

std::vector<std::string> RequestFields::files(std::string_view name) const {
  const nlohmann::json& found = look_up(name, FieldKind::kFiles).second;
  if (const auto sent = files_.find(name); sent != files_.end()) return sent->second;
  if (found.is_null()) return {};
  if (!found.is_array()) return {file_in(name, found)};
  std::vector<std::string> files;
  for (const nlohmann::json& entry : found) files.push_back(file_in(name, entry));
  return files;
}

std::optional<nlohmann::json> RequestFields::object(std::string_view name) const {
  const nlohmann::json& found = look_up(name, FieldKind::kObject).second;
  if (found.is_null()) return std::nullopt;
  if (!found.is_object()) refuse_field(name, shown(found), "an object");
  return found;
}

}  // namespace dalle
