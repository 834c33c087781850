#include "serve/http/request_problem.h"

#include <iterator>

#include <fmt/format.h>

#include "core/ascii.h"

#include <boost/beast/http/error.hpp>

namespace dalle {
namespace {

namespace http = boost::beast::http;

}  // namespace

RequestProblem problem_of_head(const http::request_header<>& head, const HttpLimits& limits) {
  const auto fields = static_cast<size_t>(std::distance(head.begin(), head.end()));
  if (fields > limits.header_fields)
    return {431, fmt::format("found {} header fields, expected at most {}", fields,
                             limits.header_fields)};
  // Otherwise a proxy might see another end of the body, and with it other requests.
  if (const size_t encodings = head.count(http::field::transfer_encoding); encodings > 0) {
    if (head.version() == 10) return {400, "transfer-encoding: not allowed in HTTP/1.0"};
    if (encodings > 1 || lower_case(head[http::field::transfer_encoding]) != "chunked")
      return {501, "transfer-encoding: expected chunked"};
  }
  if (head.count(http::field::host) > 1 ||
      (head.version() == 11 && head.count(http::field::host) == 0))
    return {400, "host: expected exactly one Host header"};
  if (head.count(http::field::expect) > 0 &&
      lower_case(head[http::field::expect]) != "100-continue")
    return {417, "expect: expected 100-continue"};
  return {};
}

RequestProblem problem_of_error(const boost::system::error_code& error, const HttpLimits& limits) {
  if (error == http::error::header_limit)
    return {431,
            fmt::format("the header is too long, expected at most {} bytes", limits.header_bytes)};
  if (error == http::error::body_limit)
    return {413, fmt::format("the body is too long, expected at most {} bytes", limits.body_bytes)};
  if (error == http::error::bad_version) return {505, "expected HTTP/1.1"};
  return {400, fmt::format("malformed HTTP request: {}", error.message())};
}

}  // namespace dalle
