#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "experiment/reranker.h"
#include "experiment/trained_dalle.h"
#include "sample/sampling_config.h"

namespace dalle {

/// The images that a client wants of a model.
struct GenerationRequest {
  std::string client;  ///< with which of them a waiting image's turn is decided
  std::string caption;
  int64_t seed = 1;
  int64_t first_image = 0;
  int64_t count = 1;
  SamplingConfig sampling = {};
  int64_t best_of = 0;  ///< if more than `count`: generate so many and keep the best
  int64_t previews = 0;  ///< of each image, while its codes are generated
  at::Tensor forced = {};  ///< as in CaptionImages
  double variation = 0;
  /// Pixels that an image prompt keeps, and the image that has them; undefined: none.
  at::Tensor pasted_pixels = {};
  RgbImage original = {};
};

struct GeneratedImage {
  int64_t image = 0;  ///< index among the images of the seed
  RgbImage pixels;
  std::optional<double> score = {};  ///< by the reranker
};

struct GenerationTimes {
  double queue_s = 0;   ///< until the first image began
  double decode_s = 0;  ///< from then until the last code
  double image_s = 0;   ///< of the dVAE and the reranker
};

/// What becomes of a request. Called on the engine's thread, one at a time; must not block.
/// Either `done` or `failed` is called last, and exactly once unless the request is canceled.
struct GenerationEvents {
  /// @param number  of the preview, from 0
  std::function<void(int64_t image, int64_t number, const RgbImage& pixels)> preview = {};
  /// In no particular order. With best_of: all at the end, the best first.
  std::function<void(const GeneratedImage& image)> image;
  std::function<void(const GenerationTimes& times)> done;
  std::function<void(const std::string& error)> failed;
};

struct EngineOptions {
  int64_t batch_size = 0;         ///< images in progress at once; 0: default_batch_size()
  int64_t queued_images = 1024;   ///< that may wait
  DecodeConfig decode = {};
};

struct EngineStatus {
  int64_t queued = 0;   ///< images
  int64_t active = 0;   ///< images
  int64_t slots = 0;
  int64_t finished = 0;  ///< images, since the start
  int64_t canceled = 0;  ///< images
  int64_t codes = 0;     ///< since the start
  double seconds_per_image = 0;  ///< of late; 0: unknown
};

/// Thrown by submit(): too many images wait already.
struct QueueFull {
  double retry_after_s = 1;
};

/// Generates the images of many requests on one thread. On a CPU, images join and leave the batch
/// of the decoder at any token, in an order that is fair to all clients, and each is, bit for bit,
/// what dalle-sample gives.
class GenerationEngine {
 public:
  GenerationEngine(TrainedDalle dalle, const EngineOptions& options);
  ~GenerationEngine();  ///< cancels what is not finished
  GenerationEngine(const GenerationEngine&) = delete;
  GenerationEngine& operator=(const GenerationEngine&) = delete;

  const TrainedDalle& dalle() const;
  bool has_reranker() const;

  /// Queues a request. Thread-safe.
  /// @return  its number, for cancel()
  /// @throws QueueFull
  /// @throws dalle::Error if the caption is invalid, or best_of is asked for without a reranker
  uint64_t submit(GenerationRequest request, GenerationEvents events);

  /// Frees the rows of a request within one token; none of its events is called afterwards, except
  /// one that is being called. Does nothing if it is complete. Thread-safe.
  void cancel(uint64_t number);

  /// Waits until all submitted requests are complete. Thread-safe.
  void drain();

  EngineStatus status() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dalle
