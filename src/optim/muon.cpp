#include "dalle/optim/muon.h"

#include <algorithm>
#include <cmath>

#include <torch/types.h>

#include "dalle/core/error.h"

namespace dalle {

at::Tensor orthogonalize(const at::Tensor& matrix) {
  DALLE_CHECK(matrix.dim() == 2);
  constexpr int kSteps = 5;
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // of a X + b (XX^T) X + c (XX^T)^2 X
  constexpr double kEpsilon = 1e-7;
  const bool tall = matrix.size(0) > matrix.size(1);
  auto x = tall ? matrix.t() : matrix;  // the products are of the shorter side
  x = x / (x.norm() + kEpsilon);        // no singular value above 1
  for (int step = 0; step < kSteps; ++step) {
    const auto gram = at::mm(x, x.t());
    const auto polynomial = at::addmm(gram, gram, gram, kB, kC);
    x = at::addmm(x, polynomial, x, kA);
  }
  return tall ? x.t() : x;
}

void muon_step(const at::Tensor& weights, const at::Tensor& gradient, const at::Tensor& momentum,
               double learning_rate, const MuonOptions& options) {
  const torch::NoGradGuard no_grad;
  const int64_t rows = weights.size(0), columns = weights.numel() / rows;
  momentum.lerp_(gradient, 1 - options.momentum);
  const auto ahead = gradient.lerp(momentum, options.momentum).view({rows, columns});
  const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
  weights.mul_(1 - learning_rate * options.weight_decay);
  weights.sub_(orthogonalize(ahead).reshape(weights.sizes()), learning_rate * scale);
}

}  // namespace dalle
