#pragma once

#include "serve/http/http_exchange.h"

namespace dalle {

/// Adds an etag of the body, which the client is to ask about each time, or turns the response into
/// a 304 without a body if the request says that the client has it already.
HttpResponse revalidated(const HttpRequest& request, HttpResponse response);

}  // namespace dalle
