#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "sample/decode_image.h"
#include "sample/generate_codes.h"
#include "sample/image_prompt.h"
#include "serve/engine/generation_engine.h"
#include "serve/small_trained_dalle.h"

namespace dalle::engine_test {

inline constexpr int64_t kCodes = 16;  // of an image of small_trained_dalle()

/// What became of a request.
struct Outcome {
  std::map<int64_t, RgbImage> images;
  std::vector<int64_t> order;                                ///< of these images
  std::vector<double> scores;                                ///< likewise
  std::map<std::pair<int64_t, int64_t>, RgbImage> previews;  ///< by image and number
  std::vector<std::string> failures;
  int done = 0;
  GenerationTimes times;

  /// Events that fill it in. It is read once the engine is idle, or where the caller knows that it
  /// is filled.
  GenerationEvents events() {
    return {.preview =
                [this](int64_t image, int64_t number, const RgbImage& pixels) {
                  previews[{image, number}] = pixels;
                },
            .image =
                [this](const GeneratedImage& image) {
                  EXPECT_TRUE(images.emplace(image.image, image.pixels).second);
                  order.push_back(image.image);
                  if (image.score) scores.push_back(*image.score);
                },
            .done =
                [this](const GenerationTimes& found) {
                  ++done;
                  times = found;
                },
            .failed = [this](const std::string& error) { failures.push_back(error); }};
  }
};

inline GenerationEvents no_events() {
  return {.image = [](const GeneratedImage&) {},
          .done = [](const GenerationTimes&) {},
          .failed = [](const std::string&) {}};
}

/// An engine that can be awaited, because it destroys the events of a request when it forgets it.
class AwaitedEngine : public GenerationEngine {
 public:
  AwaitedEngine(TrainedDalle dalle, const EngineOptions& options)
      : GenerationEngine(std::move(dalle), options),
        open_(nullptr, [forgotten = forgotten_](void*) { forgotten->set_value(); }) {}

  uint64_t submit(GenerationRequest request, GenerationEvents events) {
    events.failed = [open = open_, failed = std::move(events.failed)](const std::string& error) {
      failed(error);
    };
    return GenerationEngine::submit(std::move(request), std::move(events));
  }

  /// Waits until all requests are complete, and counted in status(). To be called once.
  void wait_until_idle() {
    open_.reset();
    forgotten_->get_future().wait();
  }

 private:
  const std::shared_ptr<std::promise<void>> forgotten_ = std::make_shared<std::promise<void>>();
  std::shared_ptr<void> open_;  ///< held by the events of all requests
};

/// A request that occupies the engine's thread until it is released, so that others can be
/// submitted meanwhile.
class Blocker {
 public:
  explicit Blocker(AwaitedEngine& engine) {
    GenerationEvents events = outcome_.events();
    events.preview = [this](int64_t, int64_t, const RgbImage&) {
      reached_.set_value();
      released_.get_future().wait();
    };
    engine.submit({.client = "blocker", .caption = "a red circle", .previews = 1}, events);
    reached_.get_future().wait();
  }
  void release() { released_.set_value(); }

 private:
  std::promise<void> reached_, released_;
  Outcome outcome_;
};

/// Submits a request as soon as the queue has room for it.
inline uint64_t submit_patiently(AwaitedEngine& engine, const GenerationRequest& request,
                                 const GenerationEvents& events) {
  while (true) {
    try {
      return engine.submit(request, events);
    } catch (const QueueFull&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

inline CaptionImages images_of(const TrainedDalle& dalle, const GenerationRequest& request,
                               int64_t count) {
  return {.caption = caption_tokens(dalle, request.caption),
          .first_image = request.first_image,
          .count = count,
          .forced = request.forced,
          .variation = request.variation};
}

/// What dalle-sample does.
inline std::map<int64_t, RgbImage> expected_images(const TrainedDalle& dalle,
                                                   const GenerationRequest& request) {
  std::map<int64_t, RgbImage> images;
  const CaptionImages wanted = images_of(dalle, request, request.count);
  generate_codes(dalle.model, std::span(&wanted, 1), request.sampling,
                 {.seed = static_cast<uint64_t>(request.seed)},
                 [&](size_t, int64_t image, const at::Tensor& codes) {
                   const RgbImage pixels = decode_image(dalle.vae, codes);
                   images[image] = request.pasted_pixels.defined()
                                       ? paste(request.original, request.pasted_pixels, pixels)
                                       : pixels;
                 });
  return images;
}

/// The codes of an image, [kCodes].
inline at::Tensor expected_codes(const TrainedDalle& dalle, const GenerationRequest& request,
                                 int64_t image) {
  GenerationRequest one = request;
  one.first_image = image;
  return generate_codes(dalle.model, images_of(dalle, one, 1), request.sampling,
                        {.seed = static_cast<uint64_t>(request.seed)})
      .flatten();
}

inline RgbImage noise_image(std::mt19937& random, int64_t size) {
  RgbImage image{.width = size, .height = size, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(3 * size * size));
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random());
  return image;
}

/// With a random caption, client, seed, sampling settings and image prompt.
inline GenerationRequest random_request(std::mt19937& random) {
  const std::vector<std::string> captions = {"a red circle", "a small circle", "red background"};
  const std::vector<SamplingConfig> samplings = {
      {},
      {.temperature = 0},
      {.temperature = 0.5, .top_k = 3},
      {.top_p = 0.6},
      {.guidance = 3},
      {.top_k = 9, .guidance = 1.5, .guidance_from = 0.2, .guidance_to = 0.7}};
  GenerationRequest request{.client = std::string(1, static_cast<char>('a' + random() % 3)),
                            .caption = captions[random() % captions.size()],
                            .seed = static_cast<int64_t>(random() % 3),
                            .first_image = static_cast<int64_t>(random() % 4),
                            .count = static_cast<int64_t>(1 + random() % 4),
                            .sampling = samplings[random() % samplings.size()],
                            .previews = static_cast<int64_t>(random() % 3)};
  if (random() % 3 == 0) {
    request.forced = torch::full({kCodes}, kFreeCode, at::kLong);
    for (int64_t p = 0; p < kCodes; ++p)
      if (random() % 2 == 0) request.forced[p] = static_cast<int64_t>(random() % 16);
    request.variation = random() % 2 == 0 ? 0 : 0.5;
  }
  if (random() % 3 == 0) {
    request.original = noise_image(random, 32);
    request.pasted_pixels = keep_upper_rows(0.4, 32);
  }
  return request;
}

}  // namespace dalle::engine_test
