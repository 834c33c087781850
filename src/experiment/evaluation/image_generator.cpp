#include "experiment/evaluation/image_generator.h"

#include <algorithm>
#include <span>

#include <torch/types.h>

#include "core/files.h"
#include "model/cpu_decoder.h"

namespace dalle {

using nlohmann::ordered_json;

ChunkedPhase generation_phase(const SuitePhase& phase, const EvaluatedModel& model,
                              const ChunkedWork& work, int64_t items, int64_t images) {
  constexpr int64_t kMostBytes = int64_t{1} << 30;
  const TrainedDalle& dalle = model.dalle.value();
  const SequenceLayout layout = dalle.config.layout();
  const int64_t at_once = default_batch_size(dalle.model->config(), layout, dalle.config.sample);
  const int64_t bytes = 2 * at_once * CpuDecoder::cache_bytes(dalle.model->config(), layout);
  return {.what = phase.what(),
          .folder = phase.folder(),
          .items = items,
          .chunk_size = std::max<int64_t>(at_once / images, 1),
          .units = images * layout.image_length(),
          .threads = work.threads() * bytes <= kMostBytes ? ChunkThreads::kOneEach
                                                          : ChunkThreads::kAllTogether};
}

std::vector<at::Tensor> generate_chunk(const EvaluatedModel& model,
                                       std::span<const CaptionImages> requests,
                                       const Chunk& chunk) {
  const TrainedDalle& dalle = model.dalle.value();
  std::vector<size_t> begins;  // of the requests' images in the result
  size_t images = 0;
  for (const CaptionImages& request : requests) {
    begins.push_back(images);
    images += static_cast<size_t>(request.count);
  }
  std::vector<at::Tensor> codes(images);
  int64_t reported = 0;
  generate_codes(
      dalle.model, requests, dalle.config.sample,
      {.seed = static_cast<uint64_t>(dalle.config.seed), .decode = dalle.config.sample},
      [&](size_t request, int64_t image, const at::Tensor& found) {
        codes[begins[request] + static_cast<size_t>(image - requests[request].first_image)] =
            found.clone();
      },
      [&](int64_t done, int64_t) {
        chunk.check_stop();
        chunk.add_progress(done - reported);
        reported = done;
      });
  return codes;
}

ordered_json codes_record(const at::Tensor& codes) {
  return tensor_record(codes.to(at::kInt));
}

std::vector<at::Tensor> joined_codes(std::span<const ordered_json> records) {
  return joined_tensors(records, "codes").to(at::kLong).unbind();
}

std::vector<at::Tensor> ImageGenerator::codes(const std::vector<std::string>& captions,
                                              const std::string& what) {
  std::map<std::string, int64_t> occurrences;
  std::vector<std::pair<std::string, int64_t>> wanted;
  for (const std::string& caption : captions) wanted.emplace_back(caption, occurrences[caption]++);
  const auto is_known = [&](const auto& key) { return codes_.contains(key); };
  if (std::ranges::all_of(wanted, is_known)) {  // as on all other ranks
    std::vector<at::Tensor> known;
    for (const auto& key : wanted) known.push_back(codes_.at(key));
    return known;
  }
  ChunkedPhase phase = generation_phase({what, "image tokens"}, model_, work_, std::ssize(wanted));
  // Several suites share these images, of which a resumed one no longer knows.
  phase.folder =
      std::string(kGeneratedImages) + "/" + sha256(ordered_json(captions).dump()).substr(0, 12);
  const auto records = work_.records(phase, [&](const Chunk& chunk) -> ordered_json {
    const auto keys = items_of(chunk, wanted);
    std::vector<CaptionImages> requests;
    for (const auto& key : keys)
      if (!codes_.contains(key))
        requests.push_back({.caption = caption_tokens(*model_.dalle, key.first),
                            .first_image = key.second,
                            .count = 1});
    const std::vector<at::Tensor> found = generate_chunk(model_, requests, chunk);
    std::vector<at::Tensor> all;
    for (size_t next = 0; const auto& key : keys)
      all.push_back(codes_.contains(key) ? codes_.at(key) : found[next++]);
    return {{"codes", codes_record(torch::stack(all))}};
  });
  std::vector<at::Tensor> codes = joined_codes(records);
  for (size_t i = 0; i < wanted.size(); ++i) codes_[wanted[i]] = codes[i];
  return codes;
}

}  // namespace dalle
