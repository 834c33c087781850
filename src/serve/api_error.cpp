#include "serve/api_error.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>
#include <utility>

#include "core/log.h"
#include "serve/engine/generation_engine.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

/// The name that programs look for, where the status has one.
std::string_view code_of(const ApiError& error) {
  static constexpr std::pair<int, std::string_view> kCodes[] = {
      {400, "invalid_value"},       {401, "invalid_api_key"},   {404, "not_found"},
      {405, "method_not_allowed"},  {413, "request_too_large"}, {415, "unsupported_media_type"},
      {429, "rate_limit_exceeded"}, {503, "unavailable"}};
  if (error.status == 400 && error.field.empty()) return "";
  if (error.status == 404 && error.field == "model") return "model_not_found";
  const auto found =
      std::ranges::find(kCodes, error.status, &std::pair<int, std::string_view>::first);
  return found == std::end(kCodes) ? "" : found->second;
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
