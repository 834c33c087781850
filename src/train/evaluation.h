#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/image/rgb_image.h"
#include "metrics/metric_log.h"
#include "metrics/running_means.h"

namespace dalle {

/// What a rank found on its share of the evaluation batches.
struct EvaluationPart {
  std::map<int64_t, RunningMeans> batches;  ///< by the number of the batch
  std::vector<int64_t> histogram;  ///< counts over all of them, e.g. of codes; may be empty
};

/// What all ranks found together.
struct EvaluationTotals {
  RunningMeans means;
  std::vector<int64_t> histogram;
};

struct Evaluation {
  double score = 0;  ///< lower is better; the best checkpoint is kept
  std::vector<Metric> metrics;
};

/// Sample images by the number of the group that they belong to; a rank generates whole groups.
using ImageGroups = std::map<int64_t, std::vector<RgbImage>>;

/// A rank's sample images, or why there was too little memory for them.
struct ImagePart {
  ImageGroups groups;
  std::string out_of_memory;
};

/// For sending to other ranks; images as PNGs.
std::string to_bytes(const std::optional<EvaluationPart>& part);
std::string to_bytes(const ImagePart& part);

/// Adds up the ranks' parts: batch by batch in double, so that the result is bitwise independent of
/// the number of ranks.
/// @param parts  from to_bytes()
/// @return       nothing if a rank had no usable samples, or if there are no batches
std::optional<EvaluationTotals> add_up(std::span<const std::string> parts);

/// The sample images of all ranks or, if any rank ran out of memory, the reason of the lowest such
/// rank.
/// @param parts  from to_bytes()
ImagePart join(std::span<const std::string> parts);

}  // namespace dalle
