#include "sample_writer.h"

#include <utility>

#include "core/log.h"
#include "rerank_options.h"
#include "sample/decode_image.h"

namespace dalle {

SampleWriter::SampleWriter(const TrainedDalle& dalle, SampleOutput output)
    : dalle_(dalle),
      output_(std::move(output)),
      best_(output_.captions.size(), BestCandidates<RgbImage>(output_.count)) {}

void SampleWriter::add(size_t request, int64_t number, const at::Tensor& codes) {
  RgbImage image = decode_image(dalle_.vae, codes);
  if (output_.pasted != nullptr)
    image = paste(output_.pasted->image, output_.pasted->kept_pixels, image);
  ++added_;
  if (output_.reranker == nullptr) {
    files_of(request).write(number, image);
    ++written_;
    return place_in_grid(request, number, image);
  }
  const double score = output_.reranker->score(output_.captions[request], codes, image);
  if (output_.keep_all) {
    files_of(request).write(number, image,
                            ImageScore{.score = score, .ranked_by = output_.reranker->name()});
    ++written_;
  }
  best_[request].add({.number = number, .score = score, .content = std::move(image)});
  if (best_[request].added() == output_.images) write_best(request);
}

void SampleWriter::finish() {
  for (size_t request = 0; request < best_.size(); ++request) write_best(request);
  for (auto& [caption, files] : output_.files) files.describe();
}

void SampleWriter::place_in_grid(size_t request, int64_t column, const RgbImage& image) {
  if (output_.grid != nullptr)
    output_.grid->place(static_cast<int64_t>(request) * output_.count + column, image);
}

/// Writes the best of a request's images so far, and releases them.
void SampleWriter::write_best(size_t request) {
  const auto ranked = std::exchange(best_[request], BestCandidates<RgbImage>(output_.count));
  if (ranked.added() == 0) return;
  int64_t place = 0;
  for (const Candidate<RgbImage>& kept : ranked.best()) {
    place_in_grid(request, place++, kept.content);
    files_of(request).write(
        kept.number, kept.content,
        ImageScore{.score = kept.score,
                   .ranked_by = output_.reranker->name(),
                   .rank = ImageScore::Rank{.place = place, .best_of = ranked.added()}});
    if (!output_.keep_all) ++written_;
  }
  files_of(request).describe();
  log_info("{}", ranking_line(output_.captions[request], ranked));
}

}  // namespace dalle
