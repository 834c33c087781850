#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/api_error.h"
#include "serve/generation_engine.h"
#include "serve/http_server.h"

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

namespace dalle {

/// Calls its functions on the worker threads, one at a time.
using WorkerStrand = boost::asio::strand<boost::asio::thread_pool::executor_type>;

/// What becomes of requests to an engine. May throw: that is reported as a failure. Either `done`
/// or `failed` is called last, unless the client disconnects.
struct RunEvents {
  /// @param request  index of the one that the image belongs to
  std::function<void(size_t request, int64_t image, int64_t number, const RgbImage& pixels)>
      preview = {};
  std::function<void(size_t request, const GeneratedImage& image)> image;
  std::function<void(const GenerationTimes& times)> done;
  std::function<void(const ApiError& error)> failed;
};

/// Submits requests that are answered together. If the client disconnects, or if one of them fails,
/// all are canceled. To be called on the strand.
///
/// @param strand      on which the events are called
/// @param request_id  for the log
/// @throws what GenerationEngine::submit() throws, with nothing left in the queue
void run_requests(GenerationEngine& engine, std::vector<GenerationRequest> requests,
                  RunEvents events, const WorkerStrand& strand, HttpReply& reply,
                  const std::string& request_id);

}  // namespace dalle
