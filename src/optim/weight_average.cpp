#include "dalle/optim/weight_average.h"

#include <torch/types.h>

namespace dalle {

WeightAverage::WeightAverage(const at::Tensor& values) : average_(values.detach().clone()) {}

void WeightAverage::update(const at::Tensor& values, double decay) {
  const torch::NoGradGuard no_grad;
  average_.lerp_(values, 1.0 - decay);
}

}  // namespace dalle
