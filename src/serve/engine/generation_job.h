#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/best_candidates.h"
#include "sample/caption_images.h"
#include "serve/engine/engine_request.h"

namespace dalle {

/// A request to a GenerationEngine and what has become of it. Only cancel() may be called by any
/// thread, all else by the engine's.
class GenerationJob {
 public:
  /// @param model     its dVAE decodes the images; must outlive the job, as must `reranker`
  /// @param reranker  null if there is none
  /// @throws dalle::Error as GenerationEngine::submit() does
  GenerationJob(GenerationRequest request, GenerationEvents events, const TrainedDalle& model,
                Reranker* reranker);

  /// No event is called from now on.
  void cancel() { is_closed_ = true; }

  /// Whether it was canceled, or its last event was called.
  bool is_closed() const { return is_closed_; }

  const GenerationRequest& request() const { return request_; }

  /// All that are to be generated.
  const CaptionImages& images() const { return images_; }

  int64_t waiting() const { return images_.count - begun_; }
  int64_t unfinished() const { return images_.count - finished_; }

  /// The images that come next have begun.
  /// @return  them
  CaptionImages begin(int64_t count);

  /// Decodes codes [grid_height, grid_width], which need not be final, and calls the event.
  void preview(int64_t image, int64_t number, const at::Tensor& codes);

  /// Decodes and scores an image whose codes are complete, and counts it as finished.
  /// @throws dalle::Error if a pixel or the score is not finite
  GeneratedImage finish(int64_t image, const at::Tensor& codes);

  /// Keeps a finished image if it may be one of the best, and calls the events that are due.
  void report(GeneratedImage image);

  /// Calls the event.
  void fail(const std::string& message);

 private:
  RgbImage decode(const at::Tensor& codes);
  void send(const GeneratedImage& image);
  void complete();

  const GenerationRequest request_;
  const GenerationEvents events_;
  const TrainedDalle& model_;
  Reranker* const reranker_;  ///< null: all images are wanted
  CaptionImages images_;
  std::optional<BestCandidates<RgbImage>> best_;
  std::atomic<bool> is_closed_ = false;
  int64_t begun_ = 0;
  int64_t finished_ = 0;
  std::chrono::steady_clock::time_point submitted_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point first_begun_;
  GenerationTimes times_;
};

}  // namespace dalle
