#pragma once

#include <optional>
#include <string>

#include "serve/http/http_exchange.h"
#include "serve/http/http_limits.h"

#include <boost/beast/http/message.hpp>
#include <boost/system/error_code.hpp>

namespace dalle {

/// Why the handler does not get a request. Converts to false if there is no problem.
struct RequestProblem {
  int status = 0;  ///< to answer with
  std::string message = {};
  std::optional<HttpResponse> response = {};  ///< the whole answer
  bool is_gone = false;                       ///< the client, so there is nothing to answer

  explicit operator bool() const { return status != 0 || is_gone; }
};

/// What Beast's parser accepts, but this server does not.
RequestProblem problem_of_head(const boost::beast::http::request_header<>& head,
                               const HttpLimits& limits);

/// What an error of Beast's parser means.
RequestProblem problem_of_error(const boost::system::error_code& error, const HttpLimits& limits);

}  // namespace dalle
