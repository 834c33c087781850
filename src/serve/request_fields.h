#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sample/pixel_rectangle.h"
#include "serve/http/http_exchange.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// What a field of a request may hold. JSON has files in base64, also as data URLs.
enum class FieldKind {
  kText,
  kInteger,
  kNumber,
  kFlag,
  kChoice,
  kRectangle,
  kFile,
  kFiles,
  kObject
};

/// A field that requests may have. The checks and the description in /openapi.json both come from
/// it.
struct RequestField {
  std::string_view name;
  FieldKind kind = FieldKind::kText;
  std::string_view help;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();  ///< of a text: bytes
  std::string_view choices = "";                         ///< separated by blanks
};

/// The fields of a request, from JSON or multipart/form-data. Those that are not known are ignored,
/// and a null counts as not given. Each function returns nothing if the field is not given, and
/// throws an ApiError that names it if its value is wrong.
class RequestFields {
 public:
  /// @param known  must outlive this
  /// @throws ApiError with status 415 for other types of content, 400 if the body is malformed
  RequestFields(const HttpRequest& request, std::span<const RequestField> known);

  std::optional<std::string> text(std::string_view name) const;
  std::optional<int64_t> integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::optional<bool> flag(std::string_view name) const;
  std::optional<std::string> choice(std::string_view name) const;
  /// "x,y,width,height", or a JSON array of the four.
  std::optional<PixelRectangle> rectangle(std::string_view name) const;
  /// An empty file counts as not given.
  std::optional<std::string> file(std::string_view name) const;
  std::vector<std::string> files(std::string_view name) const;
  /// Any JSON object. Not for multipart/form-data.
  std::optional<nlohmann::json> object(std::string_view name) const;

 private:
  /// A field that is known, and its value: null if it is not given; in multipart/form-data, always
  /// text.
  std::pair<const RequestField&, const nlohmann::json&> look_up(std::string_view name,
                                                                FieldKind kind) const;
  void read_json(std::string_view body);
  void read_multipart(std::string_view content_type, std::string_view body);

  std::span<const RequestField> known_;
  bool is_multipart_ = false;
  nlohmann::json values_ = nlohmann::json::object();
  std::map<std::string, std::vector<std::string>, std::less<>> files_;  ///< of multipart/form-data
};

}  // namespace dalle
