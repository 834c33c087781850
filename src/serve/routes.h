#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/http/http_exchange.h"

namespace dalle {

using Route = std::function<void(HttpRequest request, const std::shared_ptr<HttpReply>& reply)>;

/// Which function answers which requests. Unknown paths are answered with status 404, other methods
/// of known paths with 405 and the header `allow`, in the form of the API's errors. What a route
/// throws is answered as well: a dalle::Error with status 400.
class Routes {
 public:
  /// @param path  exact, or ending in /*: all paths that begin so
  void add(const std::string& method, const std::string& path, Route route);

  void answer(HttpRequest request, const std::shared_ptr<HttpReply>& reply) const;

  /// The path with which the routes of a path were added, "/v1/models/*"; empty if it is unknown.
  std::string path_of(const std::string& requested) const;

 private:
  struct Entry {
    std::string method, path;
    Route route;

    bool covers(const std::string& requested) const;
  };
  std::vector<Entry> entries_;
};

}  // namespace dalle
