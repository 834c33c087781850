#include "serve/answered_request.h"

#include <cstdint>
#include <utility>

#include "serve/api_context.h"
#include "serve/api_error.h"

namespace dalle {
namespace {

/// Requests that wait for a worker thread; more are answered with status 503.
constexpr int64_t kMostWaitingRequests = 64;

void answer_on_worker(ApiContext& context, HttpRequest request,
                      const std::shared_ptr<HttpReply>& reply, const WorkerHandler& handler) {
  const auto client = std::make_shared<ClientPresence>();
  reply->on_disconnect([client] { client->leave(); });
  if (++context.waiting_requests > kMostWaitingRequests) {
    --context.waiting_requests;
    throw ApiError(503, "too many requests are waiting to be parsed; try again later");
  }
  const auto tasks = std::make_shared<WorkerQueue>(context.workers);
  AnsweredRequest answered{.id = request.id, .tasks = tasks, .client = client};
  tasks->post(
      [&context, reply, answered = std::move(answered), request = std::move(request), handler] {
        --context.waiting_requests;
        if (answered.client->has_left()) return;
        answer_errors(answered.id, *reply, [&] { handler(request, reply, answered); });
      });
}

}  // namespace

void add_worker_route(Routes& routes, ApiContext& context, const std::string& path,
                      const WorkerHandler& handler) {
  routes.add("POST", path, [&context, handler](HttpRequest request, const auto& reply) {
    answer_on_worker(context, std::move(request), reply, handler);
  });
}

}  // namespace dalle
