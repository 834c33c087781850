#pragma once

#include <string>

#include "serve/http/http_limits.h"

#include <boost/beast/http/message.hpp>
#include <boost/system/error_code.hpp>

namespace dalle {

/// Why a request is refused.
struct RequestProblem {
  int status = 0;  ///< to answer with; 0: there is no problem
  std::string message = {};
};

/// What Beast's parser accepts, but this server does not.
RequestProblem problem_of_head(const boost::beast::http::request_header<>& head,
                               const HttpLimits& limits);

/// What an error of Beast's parser means.
RequestProblem problem_of_error(const boost::system::error_code& error, const HttpLimits& limits);

}  // namespace dalle
