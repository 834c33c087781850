#pragma once

#include <functional>
#include <memory>
#include <string>

#include "serve/http/client_presence.h"
#include "serve/http/http_exchange.h"
#include "serve/http/worker_queue.h"

namespace dalle {

struct ApiContext;

/// A request in progress.
struct AnsweredRequest {
  std::string id;                          ///< for the log
  std::shared_ptr<WorkerQueue> tasks;      ///< of this request
  std::shared_ptr<ClientPresence> client;  ///< who waits for the answer
};

/// Runs `work` in a task of a worker thread, unless the client has left by then, and answers what
/// it throws.
/// @throws ApiError with status 503 if too many requests wait for a worker
void answer_on_worker(ApiContext& context, HttpRequest request,
                      const std::shared_ptr<HttpReply>& reply,
                      std::function<void(const HttpRequest&, const AnsweredRequest&)> work);

}  // namespace dalle
