#pragma once

#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "eval/feature_space.h"

namespace dalle {

/// A space, and what is done to images before.
struct FeatureKind {
  FeatureSpace space;
  double blur = 0;  ///< standard deviation for gaussian_blur(), in pixels; 0: none
};

/// The features of images, of each kind.
/// @param images  [B, 3, H, W] uint8, on the device that blurs them
/// @return        each [B, D] float32 on the CPU
std::vector<at::Tensor> features_of(std::span<const FeatureKind> kinds, const at::Tensor& images);

}  // namespace dalle
