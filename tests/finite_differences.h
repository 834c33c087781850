#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include <torch/types.h>

namespace dalle {

/// The largest difference, over all elements, between autograd's gradient of a scalar function at
/// `x` and central differences, in float64.
inline double gradient_error(const std::function<at::Tensor(const at::Tensor&)>& function,
                             const at::Tensor& x, double step = 1e-6) {
  const auto variable = x.detach().to(at::kDouble).clone().requires_grad_();
  function(variable).backward();
  const auto gradient = variable.grad().contiguous().view(-1);
  const torch::NoGradGuard no_grad;
  const auto probe = x.detach().to(at::kDouble).contiguous().clone();
  double largest = 0.0;
  for (int64_t i = 0; i < probe.numel(); ++i) {
    auto element = probe.view(-1)[i];
    const double value = element.item<double>();
    element.fill_(value + step);
    const double above = function(probe).item<double>();
    element.fill_(value - step);
    const double below = function(probe).item<double>();
    element.fill_(value);
    const double difference = (above - below) / (2 * step);
    largest = std::max(largest, std::abs(difference - gradient[i].item<double>()));
  }
  return largest;
}

}  // namespace dalle
