#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serve/api_context.h"
#include "serve/routes.h"

namespace dalle {

/// The whole API: OpenAI's routes for images, those of AUTOMATIC1111's web UI, models, health,
/// metrics and the description of all of them. Must outlive the HttpServer that uses it.
class ApiRoutes {
 public:
  explicit ApiRoutes(ApiOptions options) : context_(std::move(options)) {}

  void add_to(Routes& routes);

  const std::vector<ServedModel>& models() const { return context_.models; }

  /// For a port that is known only later. To be called before any request is answered.
  void set_base_url(std::string url) { context_.base_url = std::move(url); }

  /// Counts a request that is complete, for /metrics. Thread-safe.
  /// @param route  Routes::path_of() of its path
  void count_request(const std::string& method, const std::string& route, int status,
                     double seconds) {
    context_.metrics.count(method, route, status, seconds);
  }

 private:
  ApiContext context_;
};

}  // namespace dalle
