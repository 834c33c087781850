#pragma once

#include <functional>
#include <memory>
#include <string>

#include "serve/http/client_presence.h"
#include "serve/http/http_exchange.h"
#include "serve/http/worker_queue.h"
#include "serve/routes.h"

namespace dalle {

struct ApiContext;

/// A request in progress.
struct AnsweredRequest {
  std::string id;                          ///< for the log
  std::shared_ptr<WorkerQueue> tasks;      ///< of this request
  std::shared_ptr<ClientPresence> client;  ///< who waits for the answer
};

using WorkerHandler = std::function<void(const HttpRequest&, const std::shared_ptr<HttpReply>&,
                                         const AnsweredRequest&)>;

/// Adds a route for POST whose handler runs in a task of a worker thread, unless the client has
/// left by then. What it throws is answered; so are requests with status 503 if too many wait for a
/// worker.
void add_worker_route(Routes& routes, ApiContext& context, const std::string& path,
                      const WorkerHandler& handler);

}  // namespace dalle
