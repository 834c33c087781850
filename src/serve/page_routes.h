#pragma once

#include "serve/routes.h"

namespace dalle {

/// Adds `GET /` and the scripts and the style sheet of the page. They contain nothing secret.
void add_page_routes(Routes& routes);

}  // namespace dalle
