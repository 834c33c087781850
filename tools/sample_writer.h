#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"
#include "experiment/trained/reranker.h"
#include "experiment/trained/trained_dalle.h"
#include "sample/best_candidates.h"
#include "sample/grid_file.h"
#include "sample/image_prompt.h"
#include "sample/sample_files.h"

namespace dalle {

/// What becomes of the generated images.
struct SampleOutput {
  std::vector<std::string> captions;         ///< one per request
  std::map<std::string, SampleFiles> files;  ///< by caption
  int64_t images = 1;                        ///< generated per request
  int64_t count = 1;                         ///< kept per request, the best ones by the reranker
  Reranker* reranker = nullptr;              ///< null: all images are kept
  bool keep_all = false;                     ///< also write those that the reranker does not keep
  GridFile* grid = nullptr;                  ///< shows the kept images; null: none
  /// The image that kept pixels are pasted from; null: none.
  const ImagePrompt* pasted = nullptr;
};

/// Decodes generated codes and writes each image as soon as it is complete or, with a reranker, the
/// best ones of a request as soon as it has all of its images.
class SampleWriter {
 public:
  /// @param dalle  must outlive this object
  SampleWriter(const TrainedDalle& dalle, SampleOutput output);

  /// @param request  index of the caption
  /// @param number   the image's index among those of its seed
  /// @param codes    [grid_height, grid_width] int64
  /// @throws dalle::Error naming the file if it cannot be written
  void add(size_t request, int64_t number, const at::Tensor& codes);

  /// Writes what is kept of incomplete requests, and the descriptions of all files.
  void finish();

  int64_t added() const { return added_; }
  int64_t written() const { return written_; }

 private:
  SampleFiles& files_of(size_t request) { return output_.files.at(output_.captions[request]); }
  void place_in_grid(size_t request, int64_t column, const RgbImage& image);
  void write_best(size_t request);

  const TrainedDalle& dalle_;
  SampleOutput output_;
  std::vector<BestCandidates<RgbImage>> best_;  ///< by request; of those that are not written yet
  int64_t added_ = 0;
  int64_t written_ = 0;
};

}  // namespace dalle
