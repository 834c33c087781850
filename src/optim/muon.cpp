#include "optim/muon.h"

#include <algorithm>
#include <cmath>

#include <torch/types.h>

#include "core/error.h"

namespace dalle {
namespace {

constexpr int kSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // a X + b (XX^T) X + c (XX^T)^2 X

/// Iterates on X itself: two of the three products of a step are as wide as X.
at::Tensor iterate(at::Tensor x) {
  for (int step = 0; step < kSteps; ++step) {
    const auto gram = at::mm(x, x.t());
    const auto polynomial = at::addmm(gram, gram, gram, kB, kC);
    x = at::addmm(x, polynomial, x, kA);
  }
  return x;
}

/// Takes the same steps on the square matrix Q_k in X_k = Q_k X and on X_k X_k^T: only two products
/// in total are as wide as X. Polynomials of the same matrix commute, so X_k+1 X_k+1^T is
/// P (X_k X_k^T) P.
at::Tensor iterate_on_gram(const at::Tensor& x) {
  auto gram = at::mm(x, x.t());
  at::Tensor product;
  for (int step = 0; step < kSteps; ++step) {
    const auto polynomial = at::addmm(gram, gram, gram, kB, kC);
    polynomial.diagonal().add_(kA);
    product = product.defined() ? at::mm(polynomial, product) : polynomial;
    if (step + 1 < kSteps) gram = at::mm(at::mm(polynomial, gram), polynomial);
  }
  return at::mm(product, x);
}

/// Whether saving wide products outweighs the larger number of small ones.
bool prefers_gram(const at::Tensor& x) {
  return x.size(0) >= 128 && x.size(1) >= 2 * x.size(0);
}

}  // namespace

at::Tensor orthogonalize(const at::Tensor& matrix) {
  DALLE_CHECK(matrix.dim() == 2);
  constexpr double kEpsilon = 1e-7;
  const bool tall = matrix.size(0) > matrix.size(1);
  auto x = tall ? matrix.t() : matrix;  // so that products have the shorter side
  x = x / (x.norm() + kEpsilon);        // no singular value exceeds 1
  x = prefers_gram(x) ? iterate_on_gram(x) : iterate(x);
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
