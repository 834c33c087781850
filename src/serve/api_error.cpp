#include "serve/api_error.h"

#include <cmath>
#include <string_view>

#include "core/log.h"
#include "serve/engine/generation_engine.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

/// The name that programs look for, where the status has one.
std::string_view code_of(const ApiError& error) {
  switch (error.status) {
    case 400:
      return error.field.empty() ? "" : "invalid_value";
    case 401:
      return "invalid_api_key";
    case 404:
      return error.field == "model" ? "model_not_found" : "not_found";
    case 405:
      return "method_not_allowed";
    case 413:
      return "request_too_large";
    case 415:
      return "unsupported_media_type";
    case 429:
      return "rate_limit_exceeded";
    case 503:
      return "unavailable";
    default:
      return "";
  }
}

std::string_view error_type(int status) {
  if (status == 401 || status == 403) return "authentication_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

nlohmann::ordered_json text_or_null(std::string_view text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

}  // namespace

nlohmann::ordered_json error_body(const ApiError& error) {
  return {{"error",
           {{"message", error.what()},
            {"type", error_type(error.status)},
            {"param", text_or_null(error.field)},
            {"code", text_or_null(code_of(error))}}}};
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response = json_response(error_body(error));
  response.status = error.status;
  if (error.retry_after_s)
    response.headers.emplace_back("retry-after",
                                  std::to_string(std::lround(std::ceil(*error.retry_after_s))));
  return response;
}

HttpResponse error_response(int status, const std::string& message) {
  return error_response(ApiError(status, message));
}

ApiError current_api_error(const std::string& request_id) {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const QueueFull& full) {
    ApiError error(429, full.what());
    error.retry_after_s = full.retry_after_s;
    return error;
  } catch (const Error& error) {
    return {400, error.what()};
  } catch (...) {
    return current_server_error(request_id);
  }
}

ApiError current_server_error(const std::string& request_id) {
  try {
    throw;
  } catch (const std::exception& error) {
    log_error("request {}: {}", request_id, error.what());
  } catch (...) {
    log_error("request {}: an exception of an unknown type", request_id);
  }
  return {500, fmt::format("internal error; see request {} in the server's log", request_id)};
}

void answer_errors(const std::string& request_id, HttpReply& reply,
                   const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    reply.send(error_response(current_api_error(request_id)));
  }
}

std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpResponse json_response(const nlohmann::ordered_json& json) {
  return {.status = 200, .content_type = "application/json", .body = json_text(json)};
}

}  // namespace dalle
