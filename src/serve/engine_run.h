#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "serve/answered_request.h"
#include "serve/api_error.h"
#include "serve/engine/generation_engine.h"

namespace dalle {

/// What becomes of requests to an engine. May throw: that is reported as a failure of the server.
/// Either `done` or `failed` is called last, unless the client disconnects: then, none is called.
struct RunEvents {
  /// @param request  index of the one that the image belongs to
  std::function<void(size_t request, int64_t image, int64_t number, const RgbImage& pixels)>
      preview = {};
  std::function<void(size_t request, const GeneratedImage& image)> image;
  std::function<void(const GenerationTimes& times)> done;
  std::function<void(const ApiError& error)> failed;
};

/// Submits requests that are answered together. If the client disconnects, or if one of them fails,
/// all are canceled. To be called by a task of `answered`, whose later tasks call the events.
///
/// @throws what GenerationEngine::submit() throws, with nothing left in the queue
void run_requests(GenerationEngine& engine, std::vector<GenerationRequest> requests,
                  RunEvents events, const AnsweredRequest& answered);

}  // namespace dalle
