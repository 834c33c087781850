#pragma once

#include "serve/api_context.h"
#include "serve/engine_run.h"
#include "serve/routes.h"

namespace dalle {

/// Adds OpenAI's /v1/images/generations, /edits and /variations, and /images/*, where the images
/// are that an answer names by URL.
/// @param context  must outlive the routes
void add_image_routes(Routes& routes, ApiContext& context);

/// Requests that wait for a worker thread; more are answered with status 503.
inline constexpr int64_t kMostWaitingRequests = 64;

/// Runs `work` in a task of a worker thread, unless the client has left by then, and answers what
/// it throws.
void answer_on_worker(ApiContext& context, const std::string& request_id,
                      const std::shared_ptr<HttpReply>& reply,
                      std::function<void(const AnsweredRequest&)> work);

}  // namespace dalle
