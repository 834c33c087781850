#include "serve/http/revalidation.h"

#include <string>
#include <string_view>
#include <utility>

#include "core/files.h"

namespace dalle {

HttpResponse revalidated(const HttpRequest& request, HttpResponse response) {
  const std::string etag = '"' + sha256(response.body).substr(0, 32) + '"';
  response.headers.emplace_back("etag", etag);
  response.headers.emplace_back("cache-control", "no-cache");
  // A list of etags, which may be weak: W/"...".
  if (request.header("if-none-match").find(etag) != std::string_view::npos) {
    response.status = 304;
    response.body.clear();
  }
  return response;
}

}  // namespace dalle
