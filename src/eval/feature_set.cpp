#include "eval/feature_set.h"

#include <utility>

#include <torch/types.h>

#include "eval/gaussian_blur.h"

namespace dalle {

FeatureSet::FeatureSet(std::vector<FeatureKind> kinds)
    : kinds_(std::move(kinds)), parts_(kinds_.size()) {}

void FeatureSet::add(const at::Tensor& images) {
  const at::Tensor sharp = images.to(at::kFloat).div_(255);
  for (size_t i = 0; i < kinds_.size(); ++i) {
    const auto& [space, blur] = kinds_[i];
    parts_[i].push_back(space.features(blur > 0 ? gaussian_blur(sharp, blur) : sharp));
  }
  size_ += images.size(0);
}

}  // namespace dalle
