#include "serve/api_routes.h"

#include "serve/image_routes.h"
#include "serve/sdapi_routes.h"
#include "serve/service_routes.h"

namespace dalle {

void ApiRoutes::add_to(Routes& routes) {
  add_image_routes(routes, context_);
  add_sdapi_routes(routes, context_);
  add_service_routes(routes, context_);
}

}  // namespace dalle
