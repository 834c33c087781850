#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/image/rgb_image.h"

namespace dalle {

/// A generated image and how well it fits its caption.
struct Candidate {
  int64_t number = 0;  ///< the image's index among those of its seed
  double score = 0;    ///< higher is better
  at::Tensor codes;    ///< [grid_height, grid_width] int64; undefined where only the image counts
  RgbImage image;      ///< empty where only the codes count
};

/// The candidates with the highest scores of those that were added, whatever their order. Memory
/// does not depend on how many were added.
/// Source: Ramesh et al. 2021, section 2.6, which keeps the best of 512 by a contrastive model
class BestCandidates {
 public:
  /// @param count  to keep, at least 1
  explicit BestCandidates(int64_t count) : count_(count) {}

  void add(Candidate candidate);

  int64_t added() const { return added_; }

  /// The best first; of equal scores, the lower number first.
  const std::vector<Candidate>& best() const { return best_; }

 private:
  int64_t count_;
  int64_t added_ = 0;
  std::vector<Candidate> best_;
};

}  // namespace dalle
