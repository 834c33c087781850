#pragma once

#include "serve/api_context.h"
#include "serve/routes.h"

namespace dalle {

/// Adds /v1/models, /v1/models/*, /health, /metrics and /openapi.json.
/// @param context  must outlive the routes
void add_service_routes(Routes& routes, ApiContext& context);

}  // namespace dalle
