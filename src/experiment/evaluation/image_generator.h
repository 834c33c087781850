#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "experiment/evaluation/evaluated_model.h"
#include "experiment/evaluation/evaluation_data.h"
#include "sample/generate_codes.h"
#include "train/chunked_work.h"

#include <nlohmann/json_fwd.hpp>

namespace dalle {

/// The part of a ChunkStore that has these images.
inline constexpr const char* kGeneratedImages = "images";

/// The codes of images that several suites are about, and the decoding of codes, shared by the
/// threads and the ranks of an evaluation. Images are generated with the sampling settings and the
/// seed of a model's config.
class ImageGenerator {
 public:
  /// @param model  with a transformer; must outlive the generator, as must `work`
  ImageGenerator(const EvaluatedModel& model, ChunkedWork& work) : model_(model), work_(work) {}

  /// The codes of an image for each caption, which are kept in memory. The second image of a
  /// caption that occurs twice is its image 1, because image 0 would be the same again.
  ///
  /// @param what  names the progress
  /// @return      each [h, w] int64 on the CPU
  /// @throws what ChunkedWork::records() does
  std::vector<at::Tensor> codes(const std::vector<std::string>& captions, const std::string& what);

 private:
  const EvaluatedModel& model_;
  ChunkedWork& work_;
  std::map<std::pair<std::string, int64_t>, at::Tensor> codes_;  // by caption and its image
};

/// How to divide the generation of images among threads and chunks.
/// @param images  per item
ChunkedPhase generation_phase(const SuitePhase& phase, const EvaluatedModel& model,
                              const ChunkedWork& work, int64_t items, int64_t images = 1);

/// Generates the images of requests.
/// @return  the codes of each image, [h, w] int64 on the CPU, by request and then by number
std::vector<at::Tensor> generate_chunk(const EvaluatedModel& model,
                                       std::span<const CaptionImages> requests, const Chunk& chunk);

/// The codes of images as part of a record, in 32 bits; and those of all records, which have them
/// under the name `codes`, in order.
/// @param codes  [B, h, w] int64
/// @return       each [h, w] int64 on the CPU
nlohmann::ordered_json codes_record(const at::Tensor& codes);
std::vector<at::Tensor> joined_codes(std::span<const nlohmann::ordered_json> records);

}  // namespace dalle
