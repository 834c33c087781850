#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <tuple>

#include "serve/engine/engine_request.h"
#include "serve/engine/generation_engine.h"
#include "serve/http/http_exchange.h"

namespace dalle {

/// Seconds that a request for images took.
struct RequestTimes {
  GenerationTimes generation;
  double encode_s = 0;  ///< of image files
};

/// Counts of requests and sums of their times. Thread-safe.
class RequestMetrics {
 public:
  /// @param route  as Routes::path_of() names it: few, whatever is requested
  void count(const std::string& method, const std::string& route, int status, double seconds);
  /// Adds the times of a request for images, and notes them in its reply.
  void record(const RequestTimes& times, HttpReply& reply);

  /// These and what the engines say, in the text format of Prometheus 0.0.4.
  std::string text(std::span<const ServedModel> models) const;

 private:
  using RouteKey = std::tuple<std::string, std::string, int>;  ///< method, route, status
  struct Durations {
    int64_t count = 0;
    double seconds = 0;
  };

  mutable std::mutex mutex_;
  std::map<RouteKey, Durations> requests_;
  RequestTimes sums_;
  int64_t generations_ = 0;
};

}  // namespace dalle
