#pragma once

#include <filesystem>

#include "serve/routes.h"

namespace dalle {

struct ApiContext;

/// Adds OpenAI's /v1/images/generations, /edits and /variations, and /images/*, where the images
/// are that an answer names by URL.
/// @param context  must outlive the routes
void add_image_routes(Routes& routes, ApiContext& context);

/// Adds the routes of AUTOMATIC1111's web UI that clients use to generate images. Fields without a
/// counterpart, such as steps, are accepted, and `info` says that they had no effect.
/// @param context  must outlive the routes
void add_sdapi_routes(Routes& routes, ApiContext& context);

/// Adds /v1/models, /v1/models/*, /health, /metrics and /openapi.json.
/// @param context  must outlive the routes
void add_service_routes(Routes& routes, ApiContext& context);

/// Adds `GET /` and the scripts and the style sheet of the page. They contain nothing secret.
void add_page_routes(Routes& routes);

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
