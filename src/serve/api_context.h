#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "serve/http/image_store.h"
#include "serve/request_metrics.h"
#include "serve/served_model.h"

#include <boost/asio/thread_pool.hpp>

namespace dalle {

struct ApiOptions {
  std::vector<ServedModel> models;  ///< at least one; the first is the default
  ImageStore* store = nullptr;      ///< of images served by URL; must outlive the API
  std::string base_url = {};        ///< of these URLs, "http://127.0.0.1:8080"
  size_t threads = 2;               ///< that decode and encode images
};

/// What all routes share.
struct ApiContext {
  explicit ApiContext(ApiOptions options)
      : store(*options.store),
        base_url(std::move(options.base_url)),
        workers(options.threads),
        models(std::move(options.models)) {}
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
  std::string base_url;
  RequestMetrics metrics;
  std::atomic<int64_t> waiting_requests = 0;  ///< for a worker
  boost::asio::thread_pool workers;
  mutable std::mutex mutex;
  std::string chosen_model;
  std::vector<ServedModel> models;  ///< last: their engines call the workers
};

}  // namespace dalle
