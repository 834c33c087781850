#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "core/fields.h"
#include "data/image/rgb_image.h"
#include "experiment/trained/trained_clip.h"
#include "experiment/trained/trained_dalle.h"

namespace dalle {

/// What says how well a generated image fits its caption.
///
/// clip: the similarity (cosine) of their embeddings, by a contrastive model.
///
/// likelihood: log2 p(image | caption) - log2 p(image | no caption), in bits, by the transformer
/// itself. Up to a constant for each caption, this is the log-probability of the caption given the
/// image; p(image | caption) alone would prefer images that are easy to predict, such as plain
/// ones.
enum class RankBy { kClip, kLikelihood };

constexpr auto enum_names(RankBy) {
  return names_in_order<RankBy>("clip", "likelihood");
}

/// The score of an image with this caption.
/// @throws dalle::Error if it is not finite
double finite_score(const std::string& caption, double score);

class Reranker {
 public:
  virtual ~Reranker() = default;

  /// Higher is better. Comparable only between images of one caption. Thread-safe.
  ///
  /// @param codes  [grid_height, grid_width] int64, those of the image
  /// @throws dalle::Error as finite_score() does
  double score(const std::string& caption, const at::Tensor& codes, const RgbImage& image);

  /// For metadata: "likelihood", or "clip" and the hash of the checkpoint's manifest.
  virtual std::string name() const = 0;

 protected:
  virtual double raw_score(const std::string& caption, const at::Tensor& codes,
                           const RgbImage& image) = 0;
};

/// @param dalle  whose images are ranked; must outlive the reranker
/// @param path   of the contrastive model, as for load_trained_clip(); empty: that of the same run,
///               see clip_folder()
/// @throws dalle::Error if there is none, saying how to get one, if it cannot be read, or if it
///         reads larger images than `dalle` generates
std::unique_ptr<Reranker> make_clip_reranker(const TrainedDalle& dalle,
                                             const std::filesystem::path& path, c10::Device device);

/// @param dalle  must outlive the reranker
/// @throws dalle::Error if the model was trained without caption_dropout: it has not learned
///         p(image | no caption)
std::unique_ptr<Reranker> make_likelihood_reranker(const TrainedDalle& dalle);

/// make_clip_reranker() or make_likelihood_reranker().
/// @param path  for RankBy::kClip only
/// @throws dalle::Error as these do, or if a path is given for RankBy::kLikelihood
std::unique_ptr<Reranker> make_reranker(const TrainedDalle& dalle, RankBy rank_by,
                                        const std::filesystem::path& path, c10::Device device);

}  // namespace dalle
