#pragma once

#include "serve/api_context.h"
#include "serve/engine_run.h"
#include "serve/routes.h"

namespace dalle {

/// Adds OpenAI's /v1/images/generations, /edits and /variations, and /images/*, where the images
/// are that an answer names by URL.
/// @param context  must outlive the routes
void add_image_routes(Routes& routes, ApiContext& context);

/// Runs `work` on a worker thread, and answers what it throws.
/// @param work  may keep the strand, on which it runs
void answer_on_worker(ApiContext& context, const std::string& request_id,
                      const std::shared_ptr<HttpReply>& reply,
                      std::function<void(const WorkerStrand&)> work);

}  // namespace dalle
