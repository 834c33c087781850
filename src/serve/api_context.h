#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "serve/engine/generation_engine.h"
#include "serve/http/image_store.h"
#include "serve/request_metrics.h"

#include <boost/asio/thread_pool.hpp>

namespace dalle {

/// What all routes share.
struct ApiContext {
  /// @param served   at least one; the first is the default
  /// @param images   served by URL; must outlive the API
  /// @param url      see base_url
  /// @param threads  that decode and encode images
  ApiContext(std::vector<ServedModel> served, ImageStore& images, std::string url = "",
             size_t threads = 2)
      : store(images), base_url(std::move(url)), workers(threads), models(std::move(served)) {}
  /// The workers use the engines, so they end first.
  ~ApiContext() { workers.join(); }
  ApiContext(const ApiContext&) = delete;
  ApiContext& operator=(const ApiContext&) = delete;

  /// The model of a name; the default one if there is none.
  const ServedModel& model_of(const std::string& id) const {
    for (const ServedModel& model : models)
      if (model.id == id) return model;
    return models.front();
  }

  /// The model of requests in the dialect of the web UI that do not name one: its client chooses.
  std::string sdapi_model() const {
    const std::lock_guard lock(mutex);
    return chosen_model;
  }
  void set_sdapi_model(const std::string& id) {
    const std::lock_guard lock(mutex);
    chosen_model = id;
  }

  ImageStore& store;
  std::string base_url;  ///< of images, "http://127.0.0.1:8080"; set before the first request
  RequestMetrics metrics;
  std::atomic<int64_t> waiting_requests = 0;  ///< for a worker
  boost::asio::thread_pool workers;
  mutable std::mutex mutex;
  std::string chosen_model;
  std::vector<ServedModel> models;  ///< last: their engines call the workers
};

}  // namespace dalle
