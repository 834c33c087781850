#pragma once

#include <filesystem>

#include "serve/routes.h"

namespace dalle {

/// Adds the routes that show the runs of a folder, also while they train:
///
///     GET /v1/runs                           {"object": "list", "data": [{"id", "updated"}, ...]},
///                                            the run that wrote last first
///     GET /v1/runs/ID                        the run's curves, and which images it has
///     GET /v1/runs/ID/images/STAGE/FILE      a sample image that the run lists
///     GET /v1/runs/ID/report.html            its report, if it has been written
///
/// All answers have an etag. Names in requests are only compared with those of files that a run
/// writes; they never become part of a path.
void add_run_routes(Routes& routes, const std::filesystem::path& runs);

}  // namespace dalle
