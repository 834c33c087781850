#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/utf8.h"
#include "fuzz/form_part.h"
#include "fuzz/fuzz.h"
#include "serve/api_error.h"
#include "serve/request_fields.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

constexpr RequestField kKnown[] = {
    {.name = "text", .kind = FieldKind::kText, .max = 100},
    {.name = "whole", .kind = FieldKind::kInteger, .min = -5, .max = 1e15},
    {.name = "number", .kind = FieldKind::kNumber, .min = -1e3, .max = 1e300},
    {.name = "flag", .kind = FieldKind::kFlag},
    {.name = "choice", .kind = FieldKind::kChoice, .choices = "low high"},
    {.name = "area", .kind = FieldKind::kRectangle},
    {.name = "file", .kind = FieldKind::kFile},
    {.name = "files", .kind = FieldKind::kFiles},
    {.name = "object", .kind = FieldKind::kObject},
};

/// What a field holds; nothing if it is not given, or refused with an error that names it.
template <class Read>
auto read(const char* name, Read&& get) -> decltype(get()) {
  try {
    return get();
  } catch (const ApiError& error) {
    DALLE_CHECK(error.status == 400 && error.field == name);
    const std::string message = error.what();
    DALLE_CHECK(message.size() < 300 && first_invalid_utf8(message) == message.size());
    return {};
  }
}

struct Values {
  std::optional<std::string> text, choice;
  std::optional<int64_t> whole;
  std::optional<double> number;
  std::optional<bool> flag;
  std::optional<PixelRectangle> area;
  std::vector<std::string> files;

  explicit Values(const RequestFields& fields)
      : text(read("text", [&] { return fields.text("text"); })),
        choice(read("choice", [&] { return fields.choice("choice"); })),
        whole(read("whole", [&] { return fields.integer("whole"); })),
        number(read("number", [&] { return fields.number("number"); })),
        flag(read("flag", [&] { return fields.flag("flag"); })),
        area(read("area", [&] { return fields.rectangle("area"); })),
        files(read("files", [&] { return fields.files("files"); })) {
    if (const auto file = read("file", [&] { return fields.file("file"); })) files.push_back(*file);
  }

  bool operator==(const Values&) const = default;
};

void check_ranges(const Values& values) {
  if (values.text)
    DALLE_CHECK(values.text->size() <= 100 && values.text->find('\0') == std::string::npos &&
                first_invalid_utf8(*values.text) == values.text->size());
  if (values.choice) DALLE_CHECK(*values.choice == "low" || *values.choice == "high");
  if (values.whole) DALLE_CHECK(*values.whole >= -5 && *values.whole <= 1'000'000'000'000'000);
  if (values.number) DALLE_CHECK(*values.number >= -1e3 && *values.number <= 1e300);
}

HttpRequest form_of(const Values& values, const std::string& boundary) {
  HttpRequest request{.headers = {{"content-type", "multipart/form-data; boundary=" + boundary}}};
  const auto add = [&](const std::string& name, const std::string& content) {
    request.body += form_part(name, content, boundary);
  };
  if (values.text) add("text", *values.text);
  if (values.choice) add("choice", *values.choice);
  if (values.whole) add("whole", std::to_string(*values.whole));
  if (values.number) add("number", nlohmann::json(*values.number).dump());
  if (values.flag) add("flag", *values.flag ? "true" : "false");
  if (const auto& area = values.area)
    add("area", fmt::format("{},{},{},{}", area->x, area->y, area->width, area->height));
  for (const std::string& file : values.files) add("files[]", file);
  request.body += form_end(boundary);
  return request;
}

bool contains(const Values& values, const std::string& boundary) {
  return (values.text && values.text->find(boundary) != std::string::npos) ||
         std::ranges::any_of(values.files, [&](const std::string& file) {
           return file.find(boundary) != std::string::npos;
         });
}

}  // namespace

/// A JSON body: what it holds is in the ranges of the fields, and the same sent as a form.
void fuzz(std::string_view input) {
  const HttpRequest request{.body = std::string(input)};
  std::optional<RequestFields> fields;
  if (!accepts([&] { fields.emplace(request, kKnown); })) return;
  const Values values(*fields);
  check_ranges(values);
  read("object", [&] { return fields->object("object"); });

  std::string boundary = "r";
  while (contains(values, boundary)) boundary += 'r';
  if (boundary.size() > 70) return;
  const HttpRequest form = form_of(values, boundary);
  DALLE_CHECK(Values(RequestFields(form, kKnown)) == values);
}

}  // namespace dalle
