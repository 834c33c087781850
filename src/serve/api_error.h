#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "serve/http/http_exchange.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// A request that the API refuses.
struct ApiError : std::runtime_error {
  ApiError(int of_status, const std::string& message, std::string of_field = "")
      : std::runtime_error(message), status(of_status), field(std::move(of_field)) {}

  int status;         ///< 400 for whatever the caller can fix: clients retry 408, 409, 429 and 5xx
  std::string field;  ///< of the request; empty: none
  std::optional<double> retry_after_s = {};
};

/// A field whose value is refused. The message begins with the field.
template <class... Args>
ApiError wrong_field(std::string_view field, fmt::format_string<Args...> format, Args&&... args) {
  return {400, fmt::format("{}: {}", field, fmt::format(format, std::forward<Args>(args)...)),
          std::string(field)};
}

/// {"error": {"message", "type", "param", "code"}}
nlohmann::ordered_json error_body(const ApiError& error);

HttpResponse error_response(const ApiError& error);
HttpResponse error_response(int status, const std::string& message);

/// The exception that is being handled, as the API reports it: a dalle::Error is the caller's
/// fault. Other exceptions are logged, and reported with only the request's id.
ApiError current_api_error(const std::string& request_id);

/// The exception that is being handled, as a fault of the server, which is logged.
ApiError current_server_error(const std::string& request_id);

/// Calls `work`, which may send a reply, and answers what it throws.
void answer_errors(const std::string& request_id, HttpReply& reply,
                   const std::function<void()>& work);

/// JSON text, in which bytes that are not UTF-8 are replaced.
std::string json_text(const nlohmann::ordered_json& json);

HttpResponse json_response(const nlohmann::ordered_json& json);

}  // namespace dalle
