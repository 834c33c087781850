#include "serve/engine/generation_job.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/number_range.h"
#include "core/seconds.h"
#include "sample/decode_image.h"
#include "sample/image_prompt.h"

namespace dalle {
namespace {

bool is_ranked(const GenerationRequest& request) {
  return request.best_of > 0;
}

CaptionImages checked_images(const GenerationRequest& request, const TrainedDalle& model,
                             const Reranker* reranker) {
  check_in_range("count", request.count, 1);
  check_in_range("best_of", request.best_of, 0);
  if (is_ranked(request) && reranker == nullptr)
    throw Error("best_of: found {}, but the model has no reranker", request.best_of);
  const int64_t count = std::max(request.count, request.best_of);
  check_in_range("first_image", request.first_image, 0, kNoLimit<int64_t> - count);
  check_in_range("seed", request.seed, 0);
  check_in_range("previews", request.previews, 0, model.config.layout().image_length());
  check_in_range("variation", request.variation, 0, 1);
  check_sampling(request.sampling);
  CaptionImages images{.caption = caption_tokens(model, request.caption, LongCaptions::kAccept),
                       .first_image = request.first_image,
                       .count = count,
                       .forced = request.forced,
                       .variation = request.variation};
  check_caption_images(model.model, images);
  if (request.pasted_pixels.defined()) {
    const int64_t size = model.config.data.image_size;
    DALLE_CHECK(request.pasted_pixels.scalar_type() == at::kBool);
    DALLE_CHECK(request.pasted_pixels.sizes() == at::IntArrayRef({size, size}));
    DALLE_CHECK(request.original.width == size && request.original.height == size);
  }
  return images;
}

}  // namespace

GenerationJob::GenerationJob(GenerationRequest request, GenerationEvents events,
                             const TrainedDalle& model, Reranker* reranker)
    : request_(std::move(request)),
      events_(std::move(events)),
      model_(model),
      reranker_(is_ranked(request_) ? reranker : nullptr),
      images_(checked_images(request_, model, reranker)) {
  DALLE_CHECK(events_.image && events_.done && events_.failed);
  if (reranker_ != nullptr) best_.emplace(request_.count);
}

CaptionImages GenerationJob::begin(int64_t count) {
  if (begun_ == 0) {
    first_begun_ = std::chrono::steady_clock::now();
    times_.queue_s = in_seconds(first_begun_ - submitted_);
  }
  CaptionImages next = images_;
  next.first_image += begun_;
  next.count = count;
  begun_ += count;
  return next;
}

RgbImage GenerationJob::decode(const at::Tensor& codes) {
  RgbImage image = decode_image(model_.vae, codes);
  if (!request_.pasted_pixels.defined()) return image;
  return paste(request_.original, request_.pasted_pixels, image);
}

void GenerationJob::preview(int64_t image, int64_t number, const at::Tensor& codes) {
  if (is_closed_ || !events_.preview) return;
  const auto start = std::chrono::steady_clock::now();
  const RgbImage pixels = decode(codes);
  times_.image_s += seconds_since(start);
  if (!is_closed_) events_.preview(image, number, pixels);
}

GeneratedImage GenerationJob::finish(int64_t image, const at::Tensor& codes) {
  const auto start = std::chrono::steady_clock::now();
  if (unfinished() == 1) times_.decode_s = in_seconds(start - first_begun_);
  GeneratedImage finished{.image = image, .pixels = decode(codes)};
  if (reranker_ != nullptr)
    finished.score = reranker_->score(request_.caption, codes, finished.pixels);
  times_.image_s += seconds_since(start);
  ++finished_;
  return finished;
}

void GenerationJob::report(GeneratedImage image) {
  if (best_)
    best_->add({.number = image.image, .score = *image.score, .content = std::move(image.pixels)});
  else
    send(image);
  if (finished_ == images_.count) complete();
}

void GenerationJob::send(const GeneratedImage& image) {
  if (!is_closed_) events_.image(image);
}

void GenerationJob::complete() {
  if (best_)
    for (const Candidate<RgbImage>& candidate : best_->best())
      send({.image = candidate.number, .pixels = candidate.content, .score = candidate.score});
  if (!is_closed_.exchange(true)) events_.done(times_);
}

void GenerationJob::fail(const std::string& message) {
  if (!is_closed_.exchange(true)) events_.failed(message);
}

}  // namespace dalle
