#pragma once

#include <memory>
#include <string>

#include "awaited_reply.h"
#include "serve/routes.h"

namespace dalle {

/// What the routes answer to a GET, from a client that has what has this etag.
inline HttpResponse answer_to(const Routes& routes, const std::string& path,
                              const std::string& etag = "") {
  const auto reply = std::make_shared<AwaitedReply>();
  routes.answer({.method = "GET",
                 .path = path,
                 .headers = {{"If-None-Match", etag}},
                 .client = "127.0.0.1",
                 .id = "test"},
                reply);
  return reply->response();
}

inline std::string header_of(const HttpResponse& response, const std::string& name) {
  for (const auto& [one, value] : response.headers)
    if (one == name) return value;
  return "";
}

}  // namespace dalle
