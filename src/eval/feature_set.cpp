#include "eval/feature_set.h"

#include <torch/types.h>

#include "eval/gaussian_blur.h"

namespace dalle {

std::vector<at::Tensor> features_of(std::span<const FeatureKind> kinds, const at::Tensor& images) {
  const at::Tensor sharp = images.to(at::kFloat).div_(255);
  std::vector<at::Tensor> features;
  for (const auto& [space, blur] : kinds)
    features.push_back(space.features(blur > 0 ? gaussian_blur(sharp, blur) : sharp));
  return features;
}

}  // namespace dalle
