#include "optim/ema.h"

#include <torch/types.h>

namespace dalle {

Ema::Ema(const at::Tensor& values, const std::vector<FlatRange>& ranges) : ema_(values, ranges) {
  ema_.assign(values.detach());
}

void Ema::update(const at::Tensor& values, double decay) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < ema_.ranges().size(); ++i)
    ema_.parts()[i].lerp_(ema_.ranges()[i].slice(values), 1.0 - decay);
}

}  // namespace dalle
