#include "dalle/optim/weight_average.h"

#include <torch/types.h>

namespace dalle {

WeightAverage::WeightAverage(const at::Tensor& values) : WeightAverage(values, all_of(values)) {}

WeightAverage::WeightAverage(const at::Tensor& values, const std::vector<FlatRange>& ranges)
    : average_(values, ranges) {
  average_.assign(values.detach());
}

void WeightAverage::update(const at::Tensor& values, double decay) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < average_.ranges().size(); ++i)
    average_.parts()[i].lerp_(average_.ranges()[i].of(values), 1.0 - decay);
}

}  // namespace dalle
