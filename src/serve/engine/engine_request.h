#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "sample/sampling_config.h"

namespace dalle {

/// The images that a client wants of a model.
struct GenerationRequest {
  std::string client = {};  ///< identifies the client for fair scheduling
  std::string caption = {};
  int64_t seed = 1;
  int64_t first_image = 0;
  int64_t count = 1;
  SamplingConfig sampling = {};
  /// If more than 0: generate this many candidates, or `count` if that is more, and keep the best.
  int64_t best_of = 0;
  /// Number of previews per image. Preview k of p is sent once (k + 1) / (p + 1) of the free codes
  /// are known, with the others filled in by preview_codes(). Previews due only at completion are
  /// skipped. CPU only.
  int64_t previews = 0;
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
  double image_s = 0;   ///< in the dVAE and the reranker
};

/// What becomes of a request. Called on the engine's thread, one at a time; must not block.
/// Either `done` or `failed` is called last, and exactly once unless the request is canceled. They
/// may call the engine, except its destructor.
struct GenerationEvents {
  /// @param number  of the preview, from 0; several may show the same codes
  std::function<void(int64_t image, int64_t number, const RgbImage& pixels)> preview = {};
  /// In no particular order. With best_of: all at the end, the best first.
  std::function<void(const GeneratedImage& image)> image;
  std::function<void(const GenerationTimes& times)> done;
  std::function<void(const std::string& error)> failed;
};

}  // namespace dalle
