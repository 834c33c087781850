#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include "eval/feature_space.h"

namespace dalle {

/// A space, and what is done to images before.
struct FeatureKind {
  FeatureSpace space;
  double blur = 0;  ///< standard deviation for gaussian_blur(), in pixels; 0: none
};

/// The features of a growing set of images.
class FeatureSet {
 public:
  explicit FeatureSet(std::vector<FeatureKind> kinds);

  /// @param images  [B, 3, H, W] uint8, on the device that blurs them
  void add(const at::Tensor& images);

  int64_t size() const { return size_; }

  /// @param kind  index of its FeatureKind
  /// @return      [N, D] float32 on the CPU
  at::Tensor features(size_t kind) const { return at::cat(parts_.at(kind)); }

 private:
  std::vector<FeatureKind> kinds_;
  int64_t size_ = 0;
  std::vector<std::vector<at::Tensor>> parts_;  // of each kind, of each batch
};

}  // namespace dalle
